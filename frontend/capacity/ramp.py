"""Runs the steps of a measurement against a server: more and more streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from frontend.capacity import wer
from frontend.capacity.errors import MetricsUnreachable, ServerGone, TritonMetricsUnreachable
from frontend.capacity.heard import Heard, heard
from frontend.capacity.probe import Probe
from frontend.capacity.servers import Reading
from frontend.capacity.slo import ends_ramp, judge
from frontend.capacity.speech import RATE, Clip, enough, script
from frontend.capacity.step import Step, step
from frontend.capacity.stream import Measured, play
from frontend.capacity.target import Target
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
    """Why the ramp did."""


async def climb(
    target: Target, probe: Probe, run: Run, ramp: Sequence[int], clips: Sequence[Clip], seconds: float, shown: Shown,
    *, to_the_end: bool,
) -> None:  # fmt: skip
    """Fills `run` step by step. Raises `ServerGone` when the metrics do not answer any more."""
    said = enough(clips, seconds, GAP_S)
    alone: Heard | None = None
    for streams in ramp:
        if run.steps:
            shown.now("waiting until the engine has forgotten the last step")
            await asyncio.sleep(WINDOW_S)
        try:
            readings, full, results = await load(target, probe, said, streams, shown)
        except (MetricsUnreachable, TritonMetricsUnreachable) as error:
            raise ServerGone(
                f"the server stopped answering in the step with {streams} streams: {error}. Its log says why; what was "
                "measured before that step stands"
            ) from None
        heard_now = heard(results, _word_errors(results))
        alone = alone or heard_now
        run.steps.append(step(streams, readings, full, heard_now, judge(heard_now, alone)))
        shown.done(run.steps[-1])
        ended = ends_ramp([s.verdict for s in run.steps], refused=bool(heard_now.refused))
        if ended and not to_the_end:
            run.ended = ended
            return
    run.ended = "all its steps were done"


async def load(
    target: Target, probe: Probe, said: Sequence[Clip], streams: int, shown: Shown, every_s: float = 1.0
) -> tuple[list[Reading], tuple[float, float], list[Measured]]:
    """Readings, from when until when all streams spoke, and what each of them saw.

    Raises `MetricsUnreachable`, `TritonMetricsUnreachable`.
    """
    scripts = [script(said, GAP_S, i) for i in range(min(streams, len(said)))]
    offsets = np.random.default_rng(streams).uniform(0, START_S, streams)
    before = await asyncio.to_thread(probe.read)
    began = time.perf_counter()
    playing = asyncio.gather(
        *(play(target.stream, scripts[i % len(scripts)], float(o), target.key) for i, o in enumerate(offsets))
    )
    length = len(scripts[0].audio) / RATE  # of all: they say the same
    with _told(lambda: shown.now(f"{streams} streams, {time.perf_counter() - began:.0f} of {length + START_S:.0f} s")):
        try:
            readings = [before, *await probe.during(playing, every_s)]
        finally:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
    return readings, (began + START_S, began + length), playing.result()


@contextlib.contextmanager
def _told(say: Callable[[], None]) -> Any:
    """Says it again each second."""

    async def on() -> None:
        while True:
            say()
            await asyncio.sleep(1)

    telling = asyncio.create_task(on())
    try:
        yield
    finally:
        telling.cancel()


def _word_errors(results: Sequence[Measured]) -> tuple[int, int] | None:
    """Of the sentences whose text is known."""
    pairs = [p for m in results for p in zip(m.references, m.hypotheses, strict=True) if p[0]]
    if not pairs or not wer.can_count():
        return None
    return wer.count([a for a, _ in pairs], [b for _, b in pairs])
