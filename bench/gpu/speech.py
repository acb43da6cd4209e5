"""The sentences that are played: synthesised where espeak-ng is, carried to where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from bench.load import Clip

FILE = "clips.npz"


class SpeechMissing(Exception):
    """There are no sentences to play, and nothing to make them with."""


def save(clips: list[Clip], path: Path) -> None:
    spans = np.array([[c.speech_start, c.speech_end, len(c.audio)] for c in clips], np.int64)
    texts = np.array([c.text for c in clips])
    np.savez_compressed(path, audio=np.concatenate([c.audio for c in clips]), spans=spans, texts=texts)


def load(path: Path) -> list[Clip]:
    """Raises `SpeechMissing` for a file that holds no clips."""
    try:
        with np.load(path) as stored:
            audio, spans, texts = stored["audio"], stored["spans"], stored["texts"]
    except (OSError, ValueError, KeyError) as error:
        raise SpeechMissing(f"{path} holds no clips ({error}); prepare again") from None
    ends = np.cumsum(spans[:, 2])
    return [
        Clip(audio[end - length : end], str(text), int(begin), int(stop))
        for end, (begin, stop, length), text in zip(ends, spans, texts, strict=True)
    ]


def clips(wheels: Path, n: int) -> list[Clip]:
    """Those that were brought here, else new ones. Raises `SpeechMissing`."""
    if (wheels / FILE).exists():
        return load(wheels / FILE)[:n]
    if shutil.which("espeak-ng") is None or shutil.which("flite") is None:
        raise SpeechMissing(f"there is no {wheels / FILE}, and no espeak-ng and flite to make speech with; prepare makes it")
    from bench.speech import clips as synthesised

    return synthesised(n)
