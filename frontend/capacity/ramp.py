"""Runs the steps of a measurement against a server: more and more streams, or none of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import psutil

from frontend.capacity import wer
from frontend.capacity.figures import Heard, Reading, Step, Usage, heard, step
from frontend.capacity.probe import Probe, Target
from frontend.capacity.slo import ends_ramp, judge
from frontend.capacity.speech import Clip, enough, script
from frontend.capacity.stream import Measured, play
from frontend.control.load import WINDOW_S

GAP_S = 1.5
"""Of silence after each sentence: the endpoint, and the final that follows it, before the next one."""
START_S = 3.0
"""Streams start spread over so long: nobody speaks in step with another."""


class Shown(Protocol):
    """What goes on, for people."""

    def now(self, what: str) -> None: ...
    def done(self, step: Step) -> None: ...


@dataclass
class Run:
    """What was measured so far; it stays when the run is cancelled."""

    steps: list[Step] = field(default_factory=list[Step])
    ended: str = ""


class Meter:
    """What this process and, where the server shares it, this machine use."""

    def __init__(self, *, local: bool) -> None:
        self._local, self._began = local, time.perf_counter()
        self._own, self._all = time.process_time(), _machine_seconds()

    def usage(self) -> Usage:
        took = time.perf_counter() - self._began
        own = round((time.process_time() - self._own) / took, 3)
        if not self._local:
            return Usage(own)
        return Usage(own, round((_machine_seconds() - self._all) / took, 3), psutil.cpu_count())


def _machine_seconds() -> float:
    """CPU time of all programs and of the kernel."""
    times: Any = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


async def climb(
    target: Target, probe: Probe, run: Run, ramp: Sequence[int], clips: Sequence[Clip], seconds: float, shown: Shown,
    *, to_the_end: bool,
) -> None:  # fmt: skip
    """Fills `run` step by step. Raises `CannotMeasure` when the metrics do not answer any more."""
    said = enough(clips, seconds, GAP_S)
    alone: Heard | None = None
    for streams in ramp:
        if run.steps:
            shown.now("waiting until the engine has forgotten the last step")
            await asyncio.sleep(WINDOW_S)
        measured, heard_now = await _loaded(target, probe, said, streams, shown)
        alone = alone or heard_now
        run.steps.append(dataclasses.replace(measured, verdict=judge(heard_now, alone)))
        shown.done(run.steps[-1])
        ended = ends_ramp([s.verdict for s in run.steps], refused=bool(heard_now.refused))
        if ended and not to_the_end:
            run.ended = ended
            return


async def _loaded(target: Target, probe: Probe, said: Sequence[Clip], streams: int, shown: Shown) -> tuple[Step, Heard]:
    offsets = np.random.default_rng(streams).uniform(0, START_S, streams)
    before = await asyncio.to_thread(probe.read)
    meter = Meter(local=target.local)
    playing = asyncio.gather(
        *(play(target.stream, script(said, GAP_S, i), float(o), target.key) for i, o in enumerate(offsets))
    )
    readings = [before, *await _watched(probe, playing, f"{streams} streams", shown)]
    usage = meter.usage()  # before word errors are counted
    results = playing.result()
    streams_heard = heard(results, _word_errors(results))
    return step(streams, readings, usage, streams_heard), streams_heard


async def _watched(probe: Probe, work: asyncio.Future[Any], name: str, shown: Shown) -> list[Reading]:
    """Readings while the work goes on; it is over when this is left."""
    began = time.perf_counter()

    async def show() -> None:
        while True:
            shown.now(f"{name}, {time.perf_counter() - began:.0f} s")
            await asyncio.sleep(1)

    showing = asyncio.create_task(show())
    try:
        return await probe.during(work)
    finally:
        for task in (showing, work):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _word_errors(results: Sequence[Measured]) -> tuple[int, int] | None:
    """Of the sentences whose text is known."""
    pairs = [p for m in results for p in zip(m.references, m.hypotheses, strict=True) if p[0]]
    if not pairs or not wer.can_count():
        return None
    return wer.count([a for a, _ in pairs], [b for _, b in pairs])


async def watch(target: Target, probe: Probe, run: Run, total_s: float, window_s: float, shown: Shown) -> None:
    """No load: a step for each window of the time, the last one the longest."""
    left = total_s
    while left > 0:
        span = left if left < 2 * window_s else window_s
        before = await asyncio.to_thread(probe.read)
        meter = Meter(local=target.local)
        waiting = asyncio.create_task(asyncio.sleep(span))
        readings = [before, *await _watched(probe, waiting, "watching", shown)]
        run.steps.append(step(None, readings, meter.usage()))
        shown.done(run.steps[-1])
        left -= span
