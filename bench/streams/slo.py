"""When a server's ramp ends. What a step must keep is told in `frontend/capacity/slo.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from frontend.capacity.slo import FINAL_LAG_MS, TRIES, WER_POINTS, Verdict, judge

__all__ = ["FINAL_LAG_MS", "WER_POINTS", "Verdict", "climb", "judge"]


BEYOND = 2
"""Steps that are measured after the SLO is broken, so that a picture shows how."""


def climb(steps: Iterable[int], measure: Callable[[int, int], Verdict]) -> int:
    """Measures step by step; the largest number of streams that met the SLO, 0 for none.

    `measure(streams, attempt)`. A step that does not meet it is tried once more; with the first that does not then either
    the ramp is decided, and goes on `BEYOND` steps.
    """
    best, remaining = 0, iter(steps)
    for streams in remaining:
        if not any(measure(streams, attempt).met for attempt in range(TRIES)):
            for beyond in islice(remaining, BEYOND):
                measure(beyond, 0)
            break
        best = streams
    return best
