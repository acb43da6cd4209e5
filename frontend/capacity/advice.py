"""What an operator should set, from what was measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.capacity.figures import Step
from frontend.capacity.saturation import Saturation
from frontend.capacity.slo import FINAL_LAG_MS, streams_at_slo

HEADROOM = 0.3
"""Of the streams at SLO, kept free for bursts, for a server that restarts, and for speech unlike the measured."""
WORKER_SHARE = 0.6
"""Of a core that a front-end worker should use at the most: it also accepts, resamples and drains."""
LAG_STEP_S, LEAST_LAG_S, DEFAULT_LAG_S = 0.05, 0.1, 0.3
ALARM_SHARE = 0.7
"""Of a limit, where an alarm should tell of it."""


@dataclass(frozen=True)
class Advice:
    """`streams`: at SLO. `plan`: to give a server in daily use. `limited`: the ramp found the end of what it carries."""

    streams: int
    plan: int
    limited: bool
    workers: int
    tritons: str
    max_connections: int | None
    """None where the ramp did not find the end."""
    admit_lag_s: float
    reasons: list[str]
    alarms: list[tuple[str, str]]
    """What it tells, and the PromQL expression."""


def advise(steps: Sequence[Step], full: Saturation, target: int | None = None) -> Advice | None:
    """None where no step met the SLO. `target`: streams that are to be carried in all."""
    streams = streams_at_slo([(int(s.streams), s.verdict) for s in steps])
    best = next((s for s in steps if s.verdict.met and s.streams == streams), None)
    if best is None:
        return None
    plan = max(1, math.floor(streams * (1 - HEADROOM)))
    limited = any(s.verdict.broken for s in steps if s.streams > streams)
    cores, lag = best.front.cores, admit_lag_s(steps)
    reasons = [
        f"{plan} streams for a server: {streams} at SLO less {100 * HEADROOM:.0f} % for bursts, restarts and speech unlike "
        "the measured"
    ]
    if not limited:
        reasons.append(f"{streams} streams are what was tried, not what the server carries: no larger step broke the SLO")
    if cores is not None:
        reasons.append(
            f"the front end used {cores:.2f} cores at {streams} streams; a worker should use {WORKER_SHARE} at the most"
        )
    if best.front.speech_share is not None:
        reasons.append(f"streams spoke {100 * best.front.speech_share:.0f} % of the time; idle ones cost far less")
    if target:
        servers = math.ceil(target / plan)
        workers = workers_for(cores, streams, plan)
        reasons.append(f"{target} streams want {servers} such servers with {workers} front-end workers each")
    return Advice(
        streams, plan, limited, workers_for(cores, streams, streams), _tritons(steps, full), streams if limited else None,
        lag, reasons, alarms(plan, lag),
    )  # fmt: skip


def workers_for(cores: float | None, measured: int, wanted: int) -> int:
    """Front-end workers for so many streams, when `measured` ones used so many cores; one where nobody knows."""
    return max(1, math.ceil((cores or 0.0) / measured * wanted / WORKER_SHARE))


def admit_lag_s(steps: Sequence[Step]) -> float:
    """Between the engine lag of the steps that met the SLO and that of those that broke it; not below the former.

    The server's default where the two do not lie apart.
    """
    good = max((s.front.engine_lag_p95_ms for s in steps if s.verdict.met), default=0.0) / 1000
    bad = min((s.front.engine_lag_p95_ms for s in steps if s.verdict.broken), default=0.0) / 1000
    if bad <= good:
        return DEFAULT_LAG_S
    between = max(math.floor((good + bad) / 2 / LAG_STEP_S), math.ceil(good / LAG_STEP_S))
    return max(LEAST_LAG_S, round(between * LAG_STEP_S, 2))


def _tritons(steps: Sequence[Step], full: Saturation) -> str:
    at = next((s for s in steps if s.streams == full.at), steps[-1])
    total, used = at.usage.machine_total, at.usage.machine_cores
    match full.what:
        case "machine":
            return "1 for these cores: they are all in use, another Triton needs cores of its own"
        case "GPU":
            return "1 for this card: it is full, more streams want another card"
        case "VAD" | "encoder" | "decoder" if total and used is not None and total - used >= 1:
            return f"2 on this machine: the {full.what} is full while {total - used:.1f} of {total} cores are free"
        case "VAD" | "encoder" | "decoder":
            return f"one more, on other cores: the {full.what} is full"
        case "front end":
            return "1: the front end is full before it"
        case "client":
            return "unknown: this client was full first; measure from more cores"
        case _:
            return "1: nothing of it was full"


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
