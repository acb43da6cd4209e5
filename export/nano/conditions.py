"""Test sets as they are heard elsewhere, and those that are not sentences: noise, a telephone line, single digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from export.nano import augment, synth

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SNR_DB = 10.0


class Spoken(Protocol):
    """What a test set is made of."""

    @property
    def text(self) -> str: ...

    @property
    def voice(self) -> str: ...

    def audio(self) -> synth.Pcm:
        """int16 (n,) at 16 kHz."""
        ...


@dataclass(frozen=True)
class Clip:
    """A `Spoken` in memory."""

    samples: synth.Pcm
    text: str
    voice: str

    def audio(self) -> synth.Pcm:
        return self.samples


def _mono(path: Path) -> augment.Float:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(audio.mean(axis=1), rate, augment.RATE).astype(np.float32)


def _pcm(audio: augment.Float) -> synth.Pcm:
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)


def in_noise(items: Sequence[Spoken], folder: Path, snr_db: float = SNR_DB, seed: int = 0) -> list[Clip]:
    """Each with a piece of one of the folder's recordings, whose mean power is so many dB below that of the speech."""
    noises = [n for n in map(_mono, sorted(p for p in folder.iterdir() if p.is_file())) if np.any(n)]
    r = np.random.default_rng(seed)
    clips: list[Clip] = []
    for item in items:
        speech = item.audio().astype(np.float32) / 32768
        noise = noises[int(r.integers(len(noises)))]
        noise = np.tile(noise, -(-2 * len(speech) // len(noise)))
        at = int(r.integers(len(noise) - len(speech) + 1))
        noise = noise[at : at + len(speech)]
        level = np.sqrt(np.mean(noise**2)) + 1e-9
        wanted = np.sqrt(np.mean(speech**2)) * 10 ** (-snr_db / 20)
        clips.append(Clip(_pcm(speech + noise * wanted / level), item.text, item.voice))
    return clips


def over_telephone(items: Sequence[Spoken]) -> list[Clip]:
    """Through 8 kHz mu-law."""
    return [Clip(_pcm(augment.telephone(i.audio().astype(np.float32) / 32768)), i.text, i.voice) for i in items]


def digits(folder: Path) -> list[Clip]:
    """free-spoken-digit-dataset's recordings, `<digit>_<speaker>_<take>.wav`, each between half-seconds of silence."""
    rest = np.zeros(augment.RATE // 2, np.float32)
    clips: list[Clip] = []
    for path in sorted(folder.glob("[0-9]_*.wav")):
        digit, speaker, _ = path.stem.split("_")
        clips.append(Clip(_pcm(np.concatenate([rest, _mono(path), rest])), DIGITS[int(digit)], f"fsdd:{speaker}"))
    return clips
