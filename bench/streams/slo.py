"""When a server's ramp ends. What a step must keep is told in `frontend/capacity/slo.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from frontend.capacity.slo import FINAL_LAG_MS, TRIES, WER_POINTS, Verdict, judge

__all__ = ["FINAL_LAG_MS", "WER_POINTS", "Verdict", "climb", "judge"]


def climb(steps: Iterable[int], measure: Callable[[int, int], Verdict]) -> int:
    """Measures step by step; the largest number of streams that met the SLO, 0 for none.

    `measure(streams, attempt)`. A step that does not meet it is tried once more, and the ramp ends with the first that does
    not then either.
    """
    best = 0
    for streams in steps:
        if not any(measure(streams, attempt).met for attempt in range(TRIES)):
            break
        best = streams
    return best
