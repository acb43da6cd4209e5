"""One step of a measurement: what the streams saw and what both servers' metrics say of the same time. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from frontend.capacity.exposition import Exposition
from frontend.capacity.slo import Verdict
from frontend.capacity.stream import Measured

HANG_S = 0.5
"""Endpointing silence of the streams, which is not counted as lag."""
EARLY_S = 0.2
"""A final so much before the hang was over was told while someone still spoke."""
PARTS = ("VAD", "encoder", "decoder")
Quantiles = dict[str, float | None]
"""p50 and p95 in milliseconds; None where too little was seen."""


@dataclass(frozen=True)
class Reading:
    """Both servers at one moment."""

    front: Exposition
    triton: Exposition
    """Of all Tritons, with the label `server`."""


@dataclass(frozen=True)
class Usage:
    """Of the machine that measures. `machine` is None when the server runs on another one."""

    client_cores: float
    machine_cores: float | None = None
    machine_total: int | None = None


@dataclass(frozen=True)
class Heard:
    """The streams' side. `wer` in percent, None without texts."""

    connect_ms: Quantiles
    first_partial_ms: Quantiles
    final_lag_ms: Quantiles
    """Without the hang."""
    server_lag_ms: Quantiles
    """Of the same finals as the server tells it, without network and client."""
    decode_queue_ms: Quantiles
    sentences: int
    missed: int
    early: int
    wer: float | None
    words: int
    errors: list[str]
    refusals: dict[str, int]
    client_lag_ms: float
    """What 99 of 100 chunks stayed below."""
    client_lag_most_ms: float

    @property
    def final_lag_p95_ms(self) -> float | None:
        return self.final_lag_ms["p95"]

    @property
    def n_errors(self) -> int:
        return len(self.errors)

    @property
    def refused(self) -> int:
        return sum(self.refusals.values())


@dataclass(frozen=True)
class ModelLoad:
    """One of Triton's models. `busy`: share of the time that each of its instances worked; None where nobody tells."""

    model: str
    part: str
    instances: int
    requests_s: float
    batch: float | None
    queue_ms: float | None
    compute_ms: float | None
    pending: float
    """Most requests that waited at a reading."""
    busy: float | None
    cores: float | None
    memory_mib: float | None


@dataclass(frozen=True)
class Front:
    """The front end, all its workers. `busiest`: cores of the worker that used most."""

    connections: float
    workers: int
    cores: float | None
    busiest: float | None
    memory_mib: float | None
    engine_lag_p95_ms: float
    """Over the readings of the step."""
    backlog_s: float
    finals_waiting: float
    final_p95_ms: float | None
    vad_p95_ms: float | None
    partials_per_final: float | None
    audio_s: float
    speech_share: float | None
    refused: dict[str, int]
    errors: dict[str, int]


@dataclass(frozen=True)
class Step:
    """`streams`: of the ramp, or the mean number of connections while a server was only watched."""

    streams: float
    seconds: float
    heard: Heard | None
    front: Front
    models: list[ModelLoad]
    triton_cores: float | None
    triton_memory_mib: float | None
    gpu: float | None
    usage: Usage
    verdict: Verdict = field(default_factory=Verdict)

    def part(self, name: str) -> list[ModelLoad]:
        return [m for m in self.models if m.part == name]


def heard(results: Sequence[Measured], errors_and_words: tuple[int, int] | None) -> Heard:
    """`errors_and_words`: of the texts, where they are known."""
    played = [m for m in results if not m.refused]
    missed = sum(len(m.missed) for m in played)
    lag = [v for m in played for v in m.final_lag]
    late = [v for m in played for v in m.late]
    errors, words = errors_and_words or (0, 0)
    return Heard(
        quantiles([m.connect for m in played if m.connect]),
        quantiles([v for m in played for v in m.first_partial]),
        quantiles([v - HANG_S for v in lag], missed),
        quantiles([v for m in played for v in m.server_lag]),
        quantiles([v for m in played for v in m.decode_queue]),
        len(lag) + missed,
        missed,
        sum(v < HANG_S - EARLY_S for v in lag),
        round(100 * errors / words, 2) if words else None,
        words,
        [e for m in played for e in m.errors],
        dict(Counter(m.refusal for m in results if m.refused)),
        round(1000 * float(np.percentile(late, 99)), 1) if late else 0.0,
        round(1000 * max(late, default=0.0), 1),
    )


def quantiles(seconds: Sequence[float], endless: int = 0) -> Quantiles:
    """In milliseconds, of the values and so many more without end; None where these weigh in, or nothing was seen."""
    out: Quantiles = {}
    n = len(seconds) + endless
    filled = [*seconds, *[max(seconds, default=0.0)] * endless]  # what stands for the endless is not looked at
    for q in (50, 95):
        told = bool(seconds) and math.ceil(q / 100 * (n - 1)) < len(seconds)
        out[f"p{q}"] = round(1000 * float(np.percentile(filled, q)), 1) if told else None
    return out


def step(streams: float | None, readings: Sequence[Reading], usage: Usage, streams_heard: Heard | None = None) -> Step:
    """`readings`: two at least, in the order of time: before, during and after."""
    first, last = readings[0], readings[-1]
    seconds = last.front.at - first.front.at
    connections = float(np.mean([r.front.total("voiceforge_connections") for r in readings]))
    done = last.triton.since(first.triton)
    server_cpu = done.most_by("voiceforge_tritonserver_cpu_seconds", "server")  # each of its engines tells the same
    server_memory = last.triton.most_by("voiceforge_tritonserver_memory_bytes", "server")
    models = [_model(name, readings, done, seconds) for name in sorted(done.by("nv_inference_exec_count", "model"))]
    known = [m.cores for m in models if m.cores is not None]
    held = [m.memory_mib for m in models if m.memory_mib is not None]
    gpu = [v for r in readings if (v := r.triton.most("nv_gpu_utilization")) is not None]
    return Step(
        connections if streams is None else streams,
        round(seconds, 1),
        streams_heard,
        _front(readings, last.front.since(first.front), seconds, connections),
        models,
        round(sum(known) + sum(server_cpu.values()) / seconds, 3) if server_cpu else None,
        round(sum(held) + sum(server_memory.values()) / 2**20, 1) if server_memory else None,
        round(float(np.mean(gpu)), 3) if gpu else None,
        usage,
    )


def _front(readings: Sequence[Reading], done: Exposition, seconds: float, connections: float) -> Front:
    last = readings[-1].front
    cpu, memory = done.of("process_cpu_seconds_total"), last.of("process_resident_memory_bytes")
    finals, audio = done.total("voiceforge_finals_total"), done.total("voiceforge_audio_seconds_total")
    lags = [r.front.most("voiceforge_engine_lag_seconds") or 0.0 for r in readings]
    return Front(
        round(connections, 1),
        max(1, len(last.by("voiceforge_engine_lag_seconds", "worker"))),
        round(sum(cpu.values()) / seconds, 3) if cpu else None,
        round(max(cpu.values()) / seconds, 3) if cpu else None,
        round(sum(memory.values()) / 2**20, 1) if memory else None,
        round(1000 * float(np.percentile(lags, 95)), 1),
        round(max(r.front.total("voiceforge_backlog_seconds") for r in readings), 2),
        max(r.front.total("voiceforge_finals_waiting") for r in readings),
        _ms(done.quantile("voiceforge_final_seconds", 0.95)),
        _ms(done.quantile("voiceforge_vad_seconds", 0.95)),
        round(done.total("voiceforge_partials_total") / finals, 1) if finals else None,
        round(audio, 1),
        round(done.total("voiceforge_speech_seconds_total") / audio, 3) if audio else None,
        _counts(done.by("voiceforge_refused_total", "code")),
        _counts(done.by("voiceforge_errors_total", "code")),
    )


def _model(name: str, readings: Sequence[Reading], done: Exposition, seconds: float) -> ModelLoad:
    """Triton counts for each request the time of the whole batch it was in: hence the division by the mean batch."""
    requests = done.total("nv_inference_request_success", model=name)
    runs = done.total("nv_inference_exec_count", model=name)
    batch = done.total("nv_inference_count", model=name) / runs if runs else None
    compute = done.total("nv_inference_compute_infer_duration_us", model=name) / 1e6
    cpu = done.of("voiceforge_model_cpu_seconds", model=name)
    memory = readings[-1].triton.of("voiceforge_model_memory_bytes", model=name)
    part = "VAD" if "vad" in name else "encoder" if name.endswith("_encoder") else "decoder"
    instances = max(1, len(cpu))
    if part == "decoder":  # its requests are answered by a thread, which tells itself how long it worked
        worked = done.total("voiceforge_decode_seconds", model=name) if "voiceforge_decode_seconds" in done else None
        rows, steps = (done.total(f"voiceforge_decode_{k}", model=name) for k in ("row_steps", "steps"))
        batch = rows / steps if steps else None
    else:
        worked = compute / batch if batch else 0.0
    return ModelLoad(
        name,
        part,
        instances,
        round(requests / seconds, 2),
        round(batch, 2) if batch else None,
        round(done.total("nv_inference_queue_duration_us", model=name) / requests / 1000, 2) if requests else None,
        round(1000 * compute / requests, 2) if requests else None,
        max(r.triton.total("nv_inference_pending_request_count", model=name) for r in readings),
        round(worked / seconds / instances, 3) if worked is not None else None,
        round(sum(cpu.values()) / seconds, 3) if cpu else None,
        round(sum(memory.values()) / 2**20, 1) if memory else None,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def _counts(found: dict[str, float]) -> dict[str, int]:
    return {code: round(n) for code, n in found.items() if n}
