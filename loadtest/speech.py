"""What the users of a load test say: a folder of wav files and transcripts.tsv, or sentences synthesised for the occasion.

`python -m loadtest.speech FOLDER -n 60` fills a folder with held-out sentences in many voices, by espeak-ng and flite.
"""

from __future__ import annotations

import argparse
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 16_000
LOUD = 500
"""Samples above this are taken for sound where nobody has said when speech begins and ends."""


@dataclass(frozen=True)
class Clip:
    """int16 (n,) at 16 kHz; `start` and `end` of speech in samples; the text may be unknown."""

    audio: npt.NDArray[np.int16]
    start: int
    end: int
    text: str = ""


def read(folder: Path) -> list[Clip]:
    """Mono 16-bit 16 kHz wav files, and `transcripts.tsv`: file, text, and perhaps the samples where speech begins and ends.

    Raises `FileNotFoundError` when there is no such file.
    """
    known: dict[str, list[str]] = {}
    table = folder / "transcripts.tsv"
    if table.exists():
        known = {row[0]: row[1:] for row in (line.split("\t") for line in table.read_text("utf-8").splitlines()) if row[0]}
    clips: list[Clip] = []
    for path in sorted(folder.glob("*.wav")):
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
                continue
            audio = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        text, *span = known.get(path.name, [""])
        loud = np.flatnonzero(np.abs(audio.astype(np.int32)) > LOUD)
        start, end = (
            map(int, span) if len(span) == 2 else (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(audio))
        )
        clips.append(Clip(audio, start, end, text))
    if not clips:
        raise FileNotFoundError(
            f"no mono 16-bit 16 kHz wav files in {folder}; make some: python -m loadtest.speech {folder}"
        )
    return clips


def main() -> None:
    from bench.speech import clips

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=60, help="how many sentences")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    for i, clip in enumerate(clips(args.n)):
        name = f"{i:03d}.wav"
        with wave.open(str(args.folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(clip.audio.tobytes())
        rows.append(f"{name}\t{clip.text}\t{clip.speech_start}\t{clip.speech_end}")
    (args.folder / "transcripts.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    print(f"{len(rows)} sentences in {args.folder}")


if __name__ == "__main__":
    main()
