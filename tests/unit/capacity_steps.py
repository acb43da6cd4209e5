"""Steps of a made-up ramp, for tests of what is concluded from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from frontend.capacity.heard import Heard
from frontend.capacity.servers import Front, Gpu, ModelLoad, Triton, Usage
from frontend.capacity.slo import judge
from frontend.capacity.step import Step


def heard(lag_ms: float | None = 100.0, **changed: Any) -> Heard:
    few = {"p50": 5.0, "p95": 10.0}
    base = Heard(
        few, {"p50": 220.0, "p95": 300.0}, {"p50": 50.0, "p95": lag_ms}, few, few, 40, 0, 0, 18.0, 400, [], {}, 20.0
    )
    return replace(base, **changed)


def model(name: str, part: str, busy: float | None = 0.1, **changed: Any) -> ModelLoad:
    return replace(ModelLoad(name, part, 1, 10.0, 1.5, None, 1.0, 5.0, 0.0, busy, 0.1, 80.0), **changed)


def step(
    streams: int, *, alone: Heard | None = None, heard: Heard | None = None, vad: float = 0.1, encoder: float = 0.1,
    decoder: float = 0.1, batch: float = 2.0, front_busiest: float = 0.1, engine_lag_ms: float = 10.0,
    gpu: Gpu | None = None, usage: Usage | None = None, triton_cores: float | None = 0.5, **front: Any,
) -> Step:  # fmt: skip
    """With everything idle but what is given."""
    saw = heard or _heard()
    counted = Front(
        float(streams), 1, front_busiest, front_busiest, 150.0, engine_lag_ms, 0.1, 0.0, 50.0, 10.0, 5.0, 0.6, {}, {}
    )
    models = [
        model("silero_vad", "VAD", vad),
        model("whisper_nano", "decoder", decoder, batch=batch, slots=32),
        model("whisper_nano_encoder", "encoder", encoder),
    ]
    triton = Triton(models, triton_cores, 300.0, gpu or Gpu(None, None))
    used = usage or Usage(0.1, 0.8, 4, 0.2)
    return Step(streams, 30.0, saw, replace(counted, **front), triton, used, judge(saw, alone or saw))


_heard = heard
