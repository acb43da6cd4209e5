"""Recorded noises to train in: of Debian's packages for games, drawing and music, or of any folder.

Footsteps, doors, tools, animals, engines, water, drums: what a generator does not think of. `gather` decodes them once into
one file; `Sounds` makes of them what is heard behind speech.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import lfilter

from export.nano import augment, corpus, synth

log = logging.getLogger(__name__)
FOLDERS = [
    "games/bzflag",  # of Debian's package bzflag-data
    "games/etr/sounds",  # extremetuxracer-data
    "freedroidrpg/data/sound/effects",  # freedroidrpg-data
    "games/frozen-bubble/snd",  # frozen-bubble-data
    "games/hedgewars/Data/Sounds",  # hedgewars-data
    "lmms/samples",  # lmms-common
    "games/minetest/games",  # minetest-data
    "sonic-pi/samples",  # sonic-pi-samples
    "games/supertux2/sounds",  # supertux-data
    "tuxpaint/stamps",  # tuxpaint-stamps-default
    "games/wesnoth",  # wesnoth-1.16-data
]
"""Where Debian's packages have sounds that are free to use and to change, below /usr/share."""
_SPEECH_OR_MUSIC = re.compile(
    r"voice|music|speech|_desc|symbols|ingame_comments|bot_sounds|scream|beats|bassloops|waveforms|shapes"
    r"|_[a-z]{2}(_[a-z]{2})?\.",
    re.IGNORECASE,
)
SHORTEST_S, LONGEST_S = 0.05, 20.0


def recordings(folder: Path) -> Iterator[Path]:
    """The sounds below a folder, but for those whose path says that somebody speaks or plays."""
    for path in sorted(folder.rglob("*")):
        known = path.suffix.lower() in {".wav", ".ogg", ".flac", ".mp3"}
        if known and not _SPEECH_OR_MUSIC.search(str(path.relative_to(folder))):
            yield path


def _heard(path: Path) -> augment.Float | None:
    """Mono at 16 kHz from where it begins to where it ends, of peak 1; None where there is nothing, or nothing to read."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        log.warning("%s is left out: %s", path, error)
        return None
    audio = soxr.resample(audio.mean(axis=1), rate, augment.RATE).astype(np.float32)[: round(LONGEST_S * augment.RATE)]
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max(initial=0.0))
    if len(loud) < 2 or (audio := audio[loud[0] : loud[-1] + 1]).size < SHORTEST_S * augment.RATE:
        return None
    return audio / np.abs(audio).max()


def gather(out: Path, folders: Iterable[Path]) -> int:
    """Writes all sounds of the folders to one shard in `out`; returns how many there are."""
    found = ((path.stem, _heard(path)) for folder in folders for path in recordings(folder))
    sounds = (synth.Utterance("", name, (audio * 32767).astype(np.int16)) for name, audio in found if audio is not None)
    return corpus.write_shard(out, "sounds", sounds)


class Sounds:
    """What `gather` has written to a folder; nothing where there is none."""

    def __init__(self, folder: Path) -> None:
        self._items = corpus.read(folder)

    def __len__(self) -> int:
        return len(self._items)

    def _one(self, r: np.random.Generator) -> augment.Float:
        """Some sound, faster or slower, duller or sharper than it was."""
        audio = self._items[int(r.integers(len(self)))].audio().astype(np.float32) / 32768
        if r.random() < 0.7:
            audio = augment.speed(audio, r.uniform(0.6, 1.6))
        if r.random() < 0.5:
            audio = np.asarray(lfilter([1.0, r.uniform(-0.9, 0.9)], [1.0], audio), np.float32)
        return audio / (np.sqrt(np.mean(audio**2)) + 1e-6)

    def noise(self, r: np.random.Generator, n: int) -> augment.Float:
        """One sound over and over, or several here and there; float32 (n,), of unit RMS."""
        if r.random() < 0.4:
            sound = self._one(r)
            out = np.tile(sound, 1 + -(-n // len(sound)))
            at = int(r.integers(len(sound)))
            out = out[at : at + n].copy()
        else:
            out, at, apart = np.zeros(n, np.float32), 0, r.uniform(0.02, 0.8) * augment.RATE
            kinds = [self._one(r) for _ in range(int(r.integers(1, 5)))]
            while at < n:
                piece = kinds[int(r.integers(len(kinds)))][: n - at] * r.uniform(0.2, 1.0)
                out[at : at + len(piece)] += piece
                at += 1 + int(min(len(piece) * r.uniform(0.2, 1.0), 2 * augment.RATE) + r.exponential(apart))
        if r.random() < 0.3:
            out = augment.room(r, out)
        out += 10 ** r.uniform(-2.5, -0.7) * r.standard_normal(n).astype(np.float32)
        return out / (np.sqrt(np.mean(out**2)) + 1e-9)
