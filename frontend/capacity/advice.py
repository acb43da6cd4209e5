"""What an operator should set, from what was measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.capacity.saturation import Saturation
from frontend.capacity.slo import FINAL_LAG_MS, streams_at_slo
from frontend.capacity.step import Step

HEADROOM = 0.3
"""Of the streams at SLO, kept free for bursts, for a server that restarts, and for speech unlike the measured."""
WORKER_SHARE = 0.6
"""Of a core that a front-end worker should use at the most: it also accepts, resamples and drains."""
LAG_STEP_S, LEAST_LAG_S, DEFAULT_LAG_S = 0.05, 0.1, 0.3
"""Of VOICEFORGE_ADMIT_LAG_S."""
ALARM_SHARE = 0.7
"""Of a limit, where an alarm should tell of it."""


@dataclass(frozen=True)
class Advice:
    """`streams`: at SLO. `plan`: to give a server in daily use. `limited`: the ramp found the end of what it carries."""

    streams: int
    plan: int
    limited: bool
    workers: int
    instances: str
    max_connections: int | None
    """None where the ramp did not find the end."""
    admit_lag_s: float
    servers: int | None
    """For the streams that are wanted in all; None where nobody said how many."""
    reasons: list[str]
    alarms: list[tuple[str, str]]
    """What it tells, and the PromQL expression."""


def advise(steps: Sequence[Step], full: Saturation, target: int | None = None) -> Advice | None:
    """None where no step met the SLO. `target`: streams that are to be carried in all."""
    streams = streams_at_slo([(s.streams, s.verdict) for s in steps])
    best = next((s for s in steps if s.verdict.met and s.streams == streams), None)
    if best is None:
        return None
    plan = max(1, math.floor(streams * (1 - HEADROOM)))
    limited = any(s.verdict.broken or full.what == "machine" for s in steps if s.streams > streams)
    cores, lag = best.front.cores, admit_lag_s(steps)
    workers = max(1, math.ceil((cores or 0.0) / WORKER_SHARE))
    reasons = [
        f"{plan} streams for a server: {streams} at SLO less {100 * HEADROOM:.0f} % for bursts, restarts and speech unlike "
        "the measured"
    ]
    if not limited:
        reasons.append(f"{streams} streams are what was tried, not what the server carries: no larger step told its end")
    if cores is not None:
        reasons.append(
            f"the front end used {cores:.2f} cores at {streams} streams; a worker should use {WORKER_SHARE} at the most"
        )
    if best.front.speech_share is not None:
        reasons.append(f"streams spoke {100 * best.front.speech_share:.0f} % of the time; idle ones cost far less")
    servers = math.ceil(target / plan) if target else None
    if servers:
        reasons.append(f"{target} streams want {servers} such server{'s' * (servers > 1)}")
    return Advice(
        streams, plan, limited, workers, _instances(steps, full), streams if limited else None,
        lag, servers, reasons, alarms(plan, lag),
    )  # fmt: skip


def admit_lag_s(steps: Sequence[Step]) -> float:
    """Between the engine lag of the steps that met the SLO and that of those that broke it, and no more than what the final
    lag of the first step leaves of the SLO: the engine's lag comes on top of it. The server's default where the two do not
    lie apart."""
    good = max((s.front.engine_lag_p95_ms for s in steps if s.verdict.met), default=0.0) / 1000
    bad = min((s.front.engine_lag_p95_ms for s in steps if s.verdict.broken), default=0.0) / 1000
    if bad <= good:
        return DEFAULT_LAG_S
    left = (FINAL_LAG_MS - (steps[0].heard.final_lag_p95_ms or 0.0)) / 1000
    between = max(math.floor(min((good + bad) / 2, left) / LAG_STEP_S), math.ceil(good / LAG_STEP_S))
    return max(LEAST_LAG_S, round(between * LAG_STEP_S, 2))


def _instances(steps: Sequence[Step], full: Saturation) -> str:
    """Of Triton and of its models."""
    at = next((s for s in steps if s.streams == full.at), steps[-1])
    total, used = at.usage.machine_total, at.usage.machine_cores
    idle = total - used if total and used is not None else 0.0
    match full.what:
        case "machine":
            return "one Triton with one instance a model for these cores: all are in use; more streams want another machine"
        case "other programs":
            return "unknown: other programs had the cores; measure on an idle machine"
        case "GPU":
            return "as they are for this card: it is full; more streams want another card with a Triton of its own"
        case "GPU memory":
            return "fewer `max_rows` or a smaller precision for this card, or another card with a Triton of its own"
        case "slots":
            return "export the model with more `--tune max_rows=`: finals wait for a row"
        case "decoder" if idle >= 1:
            return f"2 of the model, `--tune instances=2`: the decoder is full, {idle:.1f} of {total} cores are idle"
        case "VAD" | "encoder" if idle >= 1:
            return f"2 Tritons here, `VOICEFORGE_TRITON=a,b`: the {full.what} is full, {idle:.1f} of {total} cores are idle"
        case "VAD" | "encoder" | "decoder":
            return f"one Triton more, on other cores, `VOICEFORGE_TRITON=a,b`: the {full.what} is full"
        case "front end":
            return "one Triton: the front end is full before it; raise `VOICEFORGE_WORKERS`"
        case "client":
            return "unknown: this command was full first; measure from a machine with more cores, or with `loadtest/`"
        case "memory":
            return "as they are: the memory is full; more streams want more of it"
        case _:
            return "as they are: nothing of them was full"


def alarms(plan: int, lag_s: float) -> list[tuple[str, str]]:
    finals = "histogram_quantile(0.95, sum by (le) (rate(voiceforge_final_seconds_bucket[5m])))"
    return [
        ("more streams than planned", f"sum(voiceforge_connections) > {plan}"),
        ("the engine falls behind", f"max(voiceforge_engine_lag_seconds) > {ALARM_SHARE * lag_s:.2f}"),
        ("clients are turned away", "sum by (code) (rate(voiceforge_refused_total[5m])) > 0"),
        ("finals take long", f"{finals} > {ALARM_SHARE * FINAL_LAG_MS / 1000:.2f}"),
        ("audio piles up", "sum(voiceforge_backlog_seconds) / sum(voiceforge_connections) > 1"),
        ("a front end is full", f"rate(process_cpu_seconds_total[1m]) > {WORKER_SHARE}"),
        ("the decoder is full", f"rate(voiceforge_decode_seconds[1m]) > {ALARM_SHARE}"),
        ("Triton was started again", "increase(voiceforge_engine_restarts[10m]) > 0"),
        ("errors are told", "sum by (code) (rate(voiceforge_errors_total[5m])) > 0"),
    ]
