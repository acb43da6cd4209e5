"""Something for the users of a load test to say: `python -m loadtest.speech FOLDER -n 60`.

Fills a folder with held-out sentences in many voices, by espeak-ng and flite, and with `transcripts.tsv`: file, text, and
the samples where speech begins and ends.
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

from frontend.capacity.speech import RATE, TABLE, synthesised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=60, help="how many sentences")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    for i, clip in enumerate(synthesised(args.n)):
        name = f"{i:03d}.wav"
        with wave.open(str(args.folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(clip.audio.tobytes())
        rows.append(f"{name}\t{clip.text}\t{clip.speech_start}\t{clip.speech_end}")
    (args.folder / TABLE).write_text("\n".join(rows) + "\n", "utf-8")
    print(f"{len(rows)} sentences in {args.folder}")


if __name__ == "__main__":
    main()
