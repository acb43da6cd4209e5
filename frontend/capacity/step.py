"""One step of a ramp: what the streams saw, and what the servers say of the time in which all of them spoke. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from frontend.capacity.heard import Heard
from frontend.capacity.servers import Front, Reading, Triton, Usage, front, triton, usage
from frontend.capacity.slo import Verdict


@dataclass(frozen=True)
class Step:
    streams: int
    seconds: float
    """That the servers' figures are of."""
    heard: Heard
    front: Front
    triton: Triton
    usage: Usage
    verdict: Verdict

    @property
    def others_cores(self) -> float | None:
        """What programs use that are neither the server nor this command; None where somebody does not tell."""
        cores = [self.usage.machine_cores, self.triton.cores, self.front.cores]
        known = [c for c in cores if c is not None]
        return round(max(0.0, known[0] - sum(known[1:]) - self.usage.client_cores), 3) if len(known) == 3 else None


def step(
    streams: int, readings: Sequence[Reading], full: tuple[float, float], streams_heard: Heard, verdict: Verdict
) -> Step:
    """`readings`: two at least, in the order of time: before, during and after. `full`: from when until when all streams
    spoke; busy shares are those of that time, or of all of it where it holds fewer than two readings."""
    inside = [r for r in readings if full[0] <= r.at <= full[1]]
    steady = inside if len(inside) > 1 else readings
    return Step(
        streams,
        round(steady[-1].at - steady[0].at, 1),
        streams_heard,
        front(steady, readings),
        triton(steady),
        usage(steady),
        verdict,
    )
