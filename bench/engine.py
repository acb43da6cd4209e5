"""Cost of the engine: ours beside faster-whisper (CTranslate2), same checkpoint, same audio, one run.

`python -m bench.engine`. Whole utterances: audio seconds per CPU second of the process (one thread for both: a second one
spends its waits spinning, in either), WER by one normaliser; ours decodes in windows that nano is trained for, and also in
the 30 s windows that faster-whisper always uses; faster-whisper one utterance after the other, and batched. Silero VAD:
microseconds a frame, of one stream and of 64 in one call, beside faster-whisper's own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from bench.parity import converted
from bench.speech import clips
from export import silero
from export.nano.evaluate import NORMALISER, Recogniser, word_errors
from export.repository import NANO

RESULTS = Path(__file__).parent / "results"
RATE = 16_000
Pcm = npt.NDArray[np.int16]


def measured(texts: list[str], seconds: float, work: Callable[[], list[str]]) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "audio_s_per_cpu_s": round(seconds / cpu, 1),
        "audio_s_per_wall_s": round(seconds / wall, 1),
        "wer": round(word_errors(texts, found).wer, 2),
    }


BATCH = 16
OPTIONS = {
    "temperature": 0.0,
    "without_timestamps": True,
    "condition_on_previous_text": False,
    "language": "en",
}


def batched(pipeline: Any, audio: Sequence[Pcm], beam_size: int) -> list[str]:
    """faster-whisper takes a batch as parts of one recording: the utterances end to end."""
    edges = np.cumsum([0, *(len(a) for a in audio)]) / RATE
    parts = [{"start": float(a), "end": float(b)} for a, b in itertools.pairwise(edges)]
    whole = np.concatenate(audio).astype(np.float32) / 32768
    segments, _ = pipeline.transcribe(
        whole, batch_size=BATCH, clip_timestamps=parts, vad_filter=False, beam_size=beam_size, **OPTIONS
    )
    texts = [""] * len(audio)
    for s in segments:
        texts[min(len(audio) - 1, int(np.searchsorted(edges, (s.start + s.end) / 2, side="right")) - 1)] += s.text
    return texts


def vad(seconds: int = 10) -> dict[str, float]:
    """Microseconds of CPU a frame of 32 ms."""
    from faster_whisper.vad import SileroVADModel

    noise = (np.random.default_rng(0).standard_normal((64, 3 * silero.FRAME)) * 1000).astype(np.int16)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as name:
        silero.graph(silero.asset()).save(Path(name) / "model.onnx")
        ours = ort.InferenceSession(str(Path(name) / "model.onnx"), options, providers=["CPUExecutionProvider"])
    peer = SileroVADModel(str(silero.asset()))
    one = noise[0].astype(np.float32) / 32768

    def step(streams: int) -> object:
        states = {f"state_{n}": np.zeros((streams, size), np.float32) for n, size in silero.STATES.items()}
        return ours.run(None, {"audio": noise[:streams], **states})

    rows: dict[str, float] = {}
    for label, work, frames in (
        ("VoiceForge, one stream, 96 ms a call", lambda: step(1), 3),
        ("VoiceForge, 64 streams in a call", lambda: step(64), 3 * 64),
        ("faster-whisper, one stream, 96 ms a call", lambda: peer(one), 3),
    ):
        work()
        n = seconds * 1000 // 32 // 3
        began = time.process_time()
        for _ in range(n if frames == 3 else max(1, n // 16)):
            work()
        rows[label] = round(1e6 * (time.process_time() - began) / ((n if frames == 3 else max(1, n // 16)) * frames), 1)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beam-size", type=int, nargs="+", default=[1, 5])
    args = parser.parse_args()
    speech = clips(args.utterances)
    audio, texts = [c.audio for c in speech], [c.text for c in speech]
    seconds = sum(len(a) for a in audio) / RATE
    rows: dict[str, dict[str, float]] = {}

    for precision, beam in itertools.product(("fp32", "int8"), args.beam_size):
        ours = Recogniser(NANO, precision, args.threads, beam)
        ours.transcribe(audio[:2])
        for name, window in (("own windows", None), ("30 s windows", 30.0)):

            def decode(ours: Recogniser = ours, window: float | None = window) -> list[str]:
                return [h.text for h in ours.transcribe(audio, window_s=window)]

            rows[f"VoiceForge {precision}, {name}, beam of {beam}"] = measured(texts, seconds, decode)
        ours.close()

    from faster_whisper import BatchedInferencePipeline, WhisperModel

    with tempfile.TemporaryDirectory() as name:
        folder = converted(NANO, Path(name))
        for kind, beam in itertools.product(("float32", "int8"), args.beam_size):
            peer = WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=args.threads)

            def work(peer: WhisperModel = peer, beam: int = beam) -> list[str]:
                waves = [a.astype(np.float32) / 32768 for a in audio]
                return [" ".join(s.text for s in peer.transcribe(w, beam_size=beam, **OPTIONS)[0]) for w in waves]

            def in_batches(peer: WhisperModel = peer, beam: int = beam) -> list[str]:
                return batched(BatchedInferencePipeline(peer), audio, beam)

            rows[f"faster-whisper {kind}, beam of {beam}"] = measured(texts, seconds, work)
            rows[f"faster-whisper {kind}, batches of {BATCH}, beam of {beam}"] = measured(texts, seconds, in_batches)

    print(f"{len(audio)} utterances, {seconds:.0f} s; normaliser {NORMALISER}")
    print(f"{'':48} audio s/CPU s  audio s/wall s      WER")
    for name, row in rows.items():
        print(f"{name:48} {row['audio_s_per_cpu_s']:8.1f} {row['audio_s_per_wall_s']:15.1f} {row['wer']:8.1f} %")
    frames = vad()
    for name, microseconds in frames.items():
        print(f"{name:42} {microseconds:6.1f} µs a frame")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "engine.json").write_text(
        json.dumps({"utterances": len(audio), "seconds": seconds, "rows": rows, "vad_us": frames}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
