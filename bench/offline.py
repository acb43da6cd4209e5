"""Cost of decoding whole utterances: our engine beside faster-whisper, same checkpoint, same audio, one run.

`python -m bench.offline`. Audio seconds per CPU second of the process (two threads for both), WER by one normaliser.
Ours decodes in the windows that nano is trained for, and also in the 30 s windows that faster-whisper always uses.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.parity import converted
from bench.speech import clips
from export.nano.evaluate import NORMALISER, Recogniser, word_errors
from export.repository import CHECKPOINTS

RESULTS = Path(__file__).parent / "results"
RATE = 16_000


def measured(texts: list[str], seconds: float, work: Callable[[], list[str]]) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "audio_s_per_cpu_s": round(seconds / cpu, 1),
        "audio_s_per_wall_s": round(seconds / wall, 1),
        "wer": round(word_errors(texts, found).wer, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=60)
    args = parser.parse_args()
    speech = clips(args.utterances)
    audio, texts = [c.audio for c in speech], [c.text for c in speech]
    seconds = sum(len(a) for a in audio) / RATE
    rows: dict[str, dict[str, float]] = {}

    for precision in ("fp32", "int8"):
        ours = Recogniser(CHECKPOINTS, precision)
        ours.transcribe(audio[:2])
        for name, window in (("own windows", None), ("30 s windows", 30.0)):

            def decode(ours: Recogniser = ours, window: float | None = window) -> list[str]:
                return [h.text for h in ours.transcribe(audio, window_s=window)]

            rows[f"VoiceForge {precision}, {name}"] = measured(texts, seconds, decode)
        ours.close()

    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as name:
        folder = converted(CHECKPOINTS, Path(name))
        for kind in ("float32", "int8"):
            peer = WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=2)

            def work(peer: WhisperModel = peer) -> list[str]:
                options = {
                    "beam_size": 1,
                    "temperature": 0.0,
                    "without_timestamps": True,
                    "condition_on_previous_text": False,
                    "language": "en",
                }
                waves = [a.astype(np.float32) / 32768 for a in audio]
                return [" ".join(s.text for s in peer.transcribe(w, **options)[0]) for w in waves]

            rows[f"faster-whisper {kind}"] = measured(texts, seconds, work)

    print(f"{len(audio)} utterances, {seconds:.0f} s; normaliser {NORMALISER}")
    print(f"{'':36} audio s/CPU s  audio s/wall s      WER")
    for name, row in rows.items():
        print(f"{name:36} {row['audio_s_per_cpu_s']:8.1f} {row['audio_s_per_wall_s']:15.1f} {row['wer']:8.1f} %")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "offline.json").write_text(
        json.dumps({"utterances": len(audio), "seconds": seconds, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
