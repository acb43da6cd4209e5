"""What both servers' metrics, and this machine's own books, say of a span of time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frontend.capacity.exposition import Exposition

PARTS = ("VAD", "encoder", "decoder")
VAD, WHISPER, ENCODER = "silero_vad", "whisper_", "_encoder"
"""By which Triton's models are known."""
MIB = 2**20


@dataclass(frozen=True)
class Here:
    """This process, and this machine where the server shares it (else None). CPU seconds are since some time before."""

    client_cpu_s: float
    machine_cpu_s: float | None = None
    """Of all programs and of the kernel."""
    machine_cores: int | None = None
    machine_memory: float | None = None
    """Share that is not available to new programs."""


@dataclass(frozen=True)
class Reading:
    """Both servers and this machine at one moment."""

    front: Exposition
    triton: Exposition
    """Of all Tritons, with the label `server`."""
    here: Here

    @property
    def at(self) -> float:
        return self.front.at


@dataclass(frozen=True)
class Usage:
    """In cores. What is of the machine is None when the server runs on another one."""

    client_cores: float
    machine_cores: float | None = None
    machine_total: int | None = None
    machine_memory: float | None = None


@dataclass(frozen=True)
class Gpu:
    """Of the fullest one: shares of its time, and of its memory."""

    busy: float | None
    memory: float | None


@dataclass(frozen=True)
class ModelLoad:
    """One of Triton's models. Milliseconds are means of a request."""

    model: str
    part: str
    instances: int
    requests_s: float
    batch: float | None
    slots: int | None
    """Rows that an instance decodes together at the most; None of models without."""
    queue_ms: float | None
    compute_ms: float | None
    pending: float
    """Most requests that waited at a reading."""
    busy: float | None
    """Share of the time that each of its instances worked; None where nobody tells."""
    cores: float | None
    memory_mib: float | None


@dataclass(frozen=True)
class Triton:
    """All Tritons together; `cores` and `memory_mib` with tritonserver itself."""

    models: list[ModelLoad]
    cores: float | None
    memory_mib: float | None
    gpu: Gpu

    def part(self, name: str) -> list[ModelLoad]:
        return [m for m in self.models if m.part == name]


@dataclass(frozen=True)
class Front:
    """The front end, all its workers."""

    connections: float
    """Mean of the readings."""
    workers: int
    cores: float | None
    busiest: float | None
    """Cores of the worker that used most."""
    memory_mib: float | None
    engine_lag_p95_ms: float
    """Over the readings."""
    backlog_s: float
    finals_waiting: float
    final_p95_ms: float | None
    vad_p95_ms: float | None
    partials_per_final: float | None
    speech_share: float | None
    refused: dict[str, int]
    errors: dict[str, int]


def usage(readings: Sequence[Reading]) -> Usage:
    first, last = readings[0], readings[-1]
    seconds = last.at - first.at
    client = round((last.here.client_cpu_s - first.here.client_cpu_s) / seconds, 3)
    before, after = first.here.machine_cpu_s, last.here.machine_cpu_s
    if before is None or after is None:
        return Usage(client)
    return Usage(client, round((after - before) / seconds, 3), last.here.machine_cores, last.here.machine_memory)


def front(readings: Sequence[Reading], whole: Sequence[Reading]) -> Front:
    """`whole`: from before the first stream until after the last one, for what happens when they open and close."""
    first, last = readings[0].front, readings[-1].front
    done, seconds = last.since(first), last.at - first.at
    all_done = whole[-1].front.since(whole[0].front)
    cpu, memory = done.of("process_cpu_seconds_total"), last.of("process_resident_memory_bytes")
    finals, audio = all_done.total("voiceforge_finals_total"), all_done.total("voiceforge_audio_seconds_total")
    lags = [r.front.most("voiceforge_engine_lag_seconds") or 0.0 for r in readings]
    return Front(
        round(float(np.mean([r.front.total("voiceforge_connections") for r in readings])), 1),
        max(1, len(last.by("voiceforge_engine_lag_seconds", "worker"))),
        round(sum(cpu.values()) / seconds, 3) if cpu else None,
        round(max(cpu.values()) / seconds, 3) if cpu else None,
        round(sum(memory.values()) / MIB, 1) if memory else None,
        round(1000 * float(np.percentile(lags, 95)), 1),
        round(max(r.front.total("voiceforge_backlog_seconds") for r in readings), 2),
        max(r.front.total("voiceforge_finals_waiting") for r in readings),
        _ms(all_done.quantile("voiceforge_final_seconds", 0.95)),
        _ms(all_done.quantile("voiceforge_vad_seconds", 0.95)),
        round(all_done.total("voiceforge_partials_total") / finals, 1) if finals else None,
        round(all_done.total("voiceforge_speech_seconds_total") / audio, 3) if audio else None,
        _counts(all_done.by("voiceforge_refused_total", "code")),
        _counts(all_done.by("voiceforge_errors_total", "code")),
    )


def triton(readings: Sequence[Reading]) -> Triton:
    first, last = readings[0].triton, readings[-1].triton
    seconds, done = last.at - first.at, last.since(first)
    server_cpu = done.most_by("voiceforge_tritonserver_cpu_seconds", "server")  # each of its engines tells the same
    server_memory = last.most_by("voiceforge_tritonserver_memory_bytes", "server")
    names = sorted(done.by("nv_inference_exec_count", "model"))
    models = [_model(name, part, readings, done, seconds) for name in names if (part := part_of(name))]
    known = [m.cores for m in models if m.cores is not None]
    held = [m.memory_mib for m in models if m.memory_mib is not None]
    return Triton(
        models,
        round(sum(known) + sum(server_cpu.values()) / seconds, 3) if server_cpu else None,
        round(sum(held) + sum(server_memory.values()) / MIB, 1) if server_memory else None,
        _gpu(readings),
    )


def _gpu(readings: Sequence[Reading]) -> Gpu:
    used = [v for r in readings if (v := r.triton.most("nv_gpu_utilization")) is not None]
    last = readings[-1].triton
    total = last.of("nv_gpu_memory_total_bytes")
    held = [v / total[card] for card, v in last.of("nv_gpu_memory_used_bytes").items() if total.get(card)]
    return Gpu(round(float(np.mean(used)), 3) if used else None, round(max(held), 3) if held else None)


def part_of(model: str) -> str | None:
    """None of a model that is not ours."""
    if model == VAD:
        return "VAD"
    return None if not model.startswith(WHISPER) else "encoder" if model.endswith(ENCODER) else "decoder"


def _model(name: str, part: str, readings: Sequence[Reading], done: Exposition, seconds: float) -> ModelLoad:
    """Triton counts for each request the time of the whole batch it was in: hence the division by the mean batch."""
    last = readings[-1].triton
    requests = done.total("nv_inference_request_success", model=name)
    runs = done.total("nv_inference_exec_count", model=name)
    batch = done.total("nv_inference_count", model=name) / runs if runs else None
    compute = done.total("nv_inference_compute_infer_duration_us", model=name) / 1e6
    cpu, memory = done.of("voiceforge_model_cpu_seconds", model=name), last.of("voiceforge_model_memory_bytes", model=name)
    instances = max(1, len(cpu))
    slots = last.most("voiceforge_decode_slots", model=name)
    if part == "decoder":  # its requests are answered by a thread, which tells itself how long it worked
        worked = done.total("voiceforge_decode_seconds", model=name) if "voiceforge_decode_seconds" in done else None
        steps = done.total("voiceforge_decode_steps", model=name)
        batch = done.total("voiceforge_decode_row_steps", model=name) / steps if steps else None
    else:
        worked = compute / batch if batch else 0.0
    return ModelLoad(
        name,
        part,
        instances,
        round(requests / seconds, 2),
        round(batch, 2) if batch else None,
        round(slots) if slots else None,
        round(done.total("nv_inference_queue_duration_us", model=name) / requests / 1000, 2) if requests else None,
        round(1000 * compute / requests, 2) if requests else None,
        max(r.triton.total("nv_inference_pending_request_count", model=name) for r in readings),
        round(worked / seconds / instances, 3) if worked is not None else None,
        round(sum(cpu.values()) / seconds, 3) if cpu else None,
        round(sum(memory.values()) / MIB, 1) if memory else None,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def _counts(found: dict[str, float]) -> dict[str, int]:
    return {code: round(n) for code, n in found.items() if n}
