"""What the streams of a measurement say: recordings of a folder, or sentences synthesised for the occasion."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from frontend.batch.files import UnreadableAudio, read_audio
from frontend.capacity.errors import NoSpeech

RATE = 16_000
SUFFIXES = {".wav", ".flac"}
TABLE = "transcripts.tsv"
FRAME = RATE // 50
LOUD_SHARE, ABOVE_NOISE = 0.05, 3.0
"""A frame is sound when its RMS is above this share of the loudest one's, and so many times that of the quietest tenth."""
Pcm = npt.NDArray[np.int16]


@dataclass
class Clip:
    """One utterance: audio at 16 kHz, what was said ("": unknown), and where speech begins and ends in it (samples)."""

    audio: Pcm
    text: str
    speech_start: int
    speech_end: int


@dataclass(frozen=True)
class Script:
    """Sentences with pauses, as one stream speaks them."""

    audio: Pcm
    clips: Sequence[Clip]
    offsets: Sequence[int]
    """Where each clip begins, in samples."""


def script(clips: Sequence[Clip], gap_s: float, first: int = 0) -> Script:
    """All clips, a pause after each, beginning with number `first` and going round."""
    turn = first % len(clips)
    spoken = [*clips[turn:], *clips[:turn]]
    pause = np.zeros(round(gap_s * RATE), np.int16)
    offsets = np.cumsum([0, *(len(c.audio) + len(pause) for c in spoken)])
    return Script(np.concatenate([part for c in spoken for part in (c.audio, pause)]), spoken, offsets[:-1].tolist())


def enough(clips: Sequence[Clip], seconds: float, gap_s: float) -> list[Clip]:
    """The first clips that with their pauses fill the time, from the beginning again where they do not."""
    out: list[Clip] = []
    length = 0.0
    while length < seconds:
        out.append(clips[len(out) % len(clips)])
        length += len(out[-1].audio) / RATE + gap_s
    return out


def recorded(folder: Path) -> list[Clip]:
    """The wav and flac files of a folder, mixed down to 16 kHz mono.

    What was said is in FILE.txt beside FILE.wav, or in `transcripts.tsv`: file, text, and perhaps the samples at 16 kHz
    where speech begins and ends. Raises `NoSpeech`.
    """
    if not folder.is_dir():
        raise NoSpeech(f"{folder} is no folder; --audio takes a folder of wav or flac files")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise NoSpeech(f"{folder} has no wav or flac files")
    table = folder / TABLE
    rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()] if table.exists() else []
    known = {row[0]: row[1:] for row in rows}
    return [_read(path, known.get(path.name, [])) for path in files]


def _read(path: Path, known: Sequence[str]) -> Clip:
    try:
        audio, rate = read_audio(path)
    except UnreadableAudio as error:
        raise NoSpeech(f"{path}: {error}; take it out of the folder") from None
    if rate != RATE:
        audio = soxr.resample(audio, rate, RATE)
    text, *span = known or [""]
    beside = path.with_suffix(".txt")
    if beside.exists():
        text = beside.read_text("utf-8").strip()
    try:
        start, end = map(int, span) if span else loud_part(audio)
    except ValueError:
        raise NoSpeech(
            f"{TABLE}: the line of {path.name} is not file, text, and perhaps the samples where speech begins and ends"
        ) from None
    return Clip(audio, text, start, end)


def loud_part(audio: Pcm) -> tuple[int, int]:
    """From the first sound to the last, in samples; all of it where nothing stands out."""
    n = len(audio) // FRAME
    rms = np.sqrt(np.mean(audio[: n * FRAME].reshape(n, FRAME).astype(np.float64) ** 2, axis=1)) if n else np.zeros(0)
    if not n or not rms.any():
        return 0, len(audio)
    sound = np.flatnonzero(rms > max(LOUD_SHARE * rms.max(), ABOVE_NOISE * np.percentile(rms, 10)))
    return (int(sound[0]) * FRAME, int(sound[-1] + 1) * FRAME) if len(sound) else (0, len(audio))


def synthesised(n: int, seed: int = 77) -> list[Clip]:
    """`n` held-out sentences of 4 words and more, in voices that nano knows: espeak-ng and flite tell where speech is.

    Raises `NoSpeech` where they are not installed.
    """
    from export.nano import synth, texts

    r = random.Random(seed)
    out: list[Clip] = []
    try:
        for text in texts.corpus(4 * n + 40, seed, held_out=True):
            voice = synth.seen_voice(r)
            if voice.engine == "festival" or len(text.split()) < 4:
                continue
            u = synth.synthesise(text, voice)
            spoken = [p for p in u.phones if p[0] not in synth.PAUSES]
            if not spoken or len(u.audio) > 9 * synth.SAMPLE_RATE:
                continue
            start, end = round(spoken[0][1] * synth.SAMPLE_RATE), round(spoken[-1][2] * synth.SAMPLE_RATE)
            out.append(Clip(u.audio, text, start, min(end, len(u.audio))))
            if len(out) == n:
                break
    except OSError as error:
        raise NoSpeech(
            f"cannot make sentences ({error}); install espeak-ng and flite, or give a folder with --audio"
        ) from None
    return out
