"""faster-whisper (CTranslate2) on the same checkpoints and audio. Its models are converted where `prepare` runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.engine import RATE, failure
from bench.gpu.machine import Sampler
from bench.gpu.plan import Target
from bench.gpu.results import Deadline, Results, Row
from bench.load import Clip

GREEDY = {
    "beam_size": 1, "temperature": 0.0, "without_timestamps": True, "condition_on_previous_text": False, "language": "en",
}  # fmt: skip


def folder(wheels: Path, name: str) -> Path:
    """Where a converted model is kept."""
    return wheels / f"ct2-{name}"


def convert(checkpoint: Path, out: Path) -> None:
    """In float16, by CTranslate2's own converter. Raises `ImportError` without transformers and torch."""
    from ctranslate2.converters import TransformersConverter

    converter = TransformersConverter(str(checkpoint), copy_files=["tokenizer.json", "preprocessor_config.json"])
    converter.convert(str(out), quantization="float16", force=True)


def transcribed(model: Any, clips: Sequence[Clip], batch: int) -> int:
    """Utterances one after the other, or, as its batches want it, as parts of one recording; returns the tokens."""
    from faster_whisper import BatchedInferencePipeline

    waves = [c.audio.astype(np.float32) / 32768 for c in clips]
    if batch == 1:
        return sum(len(s.tokens) for w in waves for s in model.transcribe(w, **GREEDY)[0])
    edges = np.cumsum([0, *(len(w) for w in waves)]) / RATE
    parts = [{"start": float(a), "end": float(b)} for a, b in itertools.pairwise(edges)]
    pipeline = BatchedInferencePipeline(model)
    found, _ = pipeline.transcribe(
        np.concatenate(waves), batch_size=batch, clip_timestamps=parts, vad_filter=False, **GREEDY
    )
    return sum(len(s.tokens) for s in found)


def measured(target: Target, model: Any, clips: Sequence[Clip], batch: int) -> Row:
    some = [clips[i % len(clips)] for i in range(max(batch, min(len(clips), 4 * batch)))]
    transcribed(model, some[:batch], batch)
    seconds, tokens, began, cpu = 0.0, 0, time.perf_counter(), time.process_time()
    with Sampler(target.device) as sampler:
        while (wall := time.perf_counter() - began) < target.sizes.row_s or not seconds:
            tokens += transcribed(model, some, batch)
            seconds += sum(len(c.audio) for c in some) / RATE
    gpu = sampler.summary()
    busy = wall * gpu["gpu_percent"] / 100 if gpu else None
    return {
        "audio_s_per_wall_s": round(seconds / wall, 1),
        "audio_s_per_gpu_s": round(seconds / busy, 1) if busy else None,
        "tokens_per_s": round(tokens / wall, 1),
        "cpu_cores": round((time.process_time() - cpu) / wall, 2),
        "gpu": gpu,
    }


def measure(target: Target, results: Results, wheels: Path, name: str, clips: Sequence[Clip], deadline: Deadline) -> None:
    """Rows beside ours. Without a converted model, or where CTranslate2 does not run, one row says why."""
    label = f"faster-whisper {name} fp16, 30 s windows"
    keys = {n: f"{label}, {n}" for n in target.sizes.batches}
    if all(results.has("engine", k) for k in keys.values()) or not deadline.has(3 * target.sizes.row_s):
        return
    if not folder(wheels, name).is_dir():
        reason = "not converted: where prepare ran there were no transformers and torch"
        results.record("peer", name, {"failed": reason})
        return
    try:
        from faster_whisper import WhisperModel

        kind = "float16" if target.device == "cuda" else "float32"
        model = WhisperModel(str(folder(wheels, name)), device=target.device, compute_type=kind)
    except Exception as error:  # CTranslate2's own: no CUDA 12 libraries, no kernel for this GPU
        results.record("peer", name, failure(error))
        return
    results.record("peer", name, {"compute_type": kind})
    for n, key in keys.items():
        if results.has("engine", key) or not deadline.has(3 * target.sizes.row_s):
            continue
        try:
            results.record("engine", key, measured(target, model, clips, n))
        except Exception as error:
            results.record("engine", key, failure(error))
