"""What of a server is full first, and by which figures that is known. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frontend.capacity.figures import PARTS, ModelLoad, Step
from frontend.capacity.slo import CLIENT_LAG_MS

FULL = 0.85
"""Of a thread's or a core's time. At 85 % one waits five to six times as long as one is served (M/M/1)."""
MACHINE_FULL = 0.95
"""Of all cores: many short waits for a core rather than one long queue."""
GROWN, GROWN_MS = 2.0, 20.0
"""A wait that is so many times what it was, and by so many milliseconds longer, has grown."""


@dataclass(frozen=True)
class Share:
    """How full something is; `of` says of what."""

    name: str
    share: float
    of: str

    def __str__(self) -> str:
        return f"{self.name}: {100 * self.share:.0f} % of {self.of}"


@dataclass(frozen=True)
class Saturation:
    """`what` is "" when nothing was full. `at`: streams of the first step in which it was."""

    what: str
    at: float | None
    evidence: list[str]


def shares(step: Step) -> list[Share]:
    """Everything that can be full in a step and whose use is known, the fullest first."""
    found: list[Share] = []
    if step.heard:
        found.append(Share("client", step.usage.client_cores, "the core that its one thread can use"))
    if step.front.busiest is not None:
        found.append(Share("front end", step.front.busiest, "the core that a worker can use"))
    for part in PARTS:
        for m in step.part(part):
            if m.busy is not None:
                found.append(Share(part, m.busy, f"the time of {m.model} ({m.instances} instance{'s' * (m.instances > 1)})"))
    if step.gpu is not None:
        found.append(Share("GPU", step.gpu, "the GPU's time"))
    if step.usage.machine_cores is not None and step.usage.machine_total:
        total = step.usage.machine_total
        found.append(Share("machine", step.usage.machine_cores / total, f"its {total} cores, whoever uses them"))
    return sorted(found, key=lambda s: -s.share)


def saturation(steps: Sequence[Step]) -> Saturation:
    """Of the first step in which something was full. The client first: behind a late one nothing can be told.

    Where all cores of the machine are in use, that is what is full: a part that waits for a core looks busy, too.
    """
    for step in steps:
        if step.heard and step.heard.client_lag_ms > CLIENT_LAG_MS:
            late = f"99 of 100 chunks left up to {step.heard.client_lag_ms:.0f} ms late"
            return Saturation("client", step.streams, [late, *map(str, shares(step))])
        full = [s for s in shares(step) if s.share >= (MACHINE_FULL if s.name == "machine" else FULL)]
        full.sort(key=lambda s: s.name != "machine")
        if full:
            users = _users(step) if full[0].name == "machine" else []
            others = [str(s) for s in shares(step) if s is not full[0] and s != full[0]]
            return Saturation(full[0].name, step.streams, [str(full[0]), *users, *_grown(steps[0], step), *others])
    if not steps:
        return Saturation("", None, [])
    return Saturation("", None, [*map(str, shares(steps[-1])), *_grown(steps[0], steps[-1])])


def _users(step: Step) -> list[str]:
    """Who uses the machine's cores, and how many nobody of ours does."""
    ours = [("Triton", step.triton_cores), ("front end", step.front.cores), ("client", step.usage.client_cores)]
    known = sorted(((name, cores) for name, cores in ours if cores is not None), key=lambda k: -k[1])
    others = (step.usage.machine_cores or 0.0) - sum(cores for _, cores in known)
    lines = [f"{name}: {cores:.2f} cores" for name, cores in known]
    return [*lines, f"other programs and the kernel: {others:.2f} cores"] if others > 0 else lines


def _grown(first: Step, now: Step) -> list[str]:
    """What was waited for longer than in the first step."""

    def longest(step: Step, part: str, figure: Callable[[ModelLoad], float | None]) -> float | None:
        return max((v for m in step.part(part) if (v := figure(m)) is not None), default=None)

    waits = {"VAD round trip (p95)": (first.front.vad_p95_ms, now.front.vad_p95_ms)}
    waits["final round trip (p95)"] = first.front.final_p95_ms, now.front.final_p95_ms
    for part in PARTS:
        for what, figure in (("queue", lambda m: m.queue_ms), ("compute", lambda m: m.compute_ms)):
            waits[f"{part}: {what}"] = longest(first, part, figure), longest(now, part, figure)
    if first.heard and now.heard:
        waits["wait for a decode row (p95)"] = first.heard.decode_queue_ms["p95"], now.heard.decode_queue_ms["p95"]
    grown = [
        (after - before, f"{name}: {before:.0f} ms at {first.streams:g} streams, {after:.0f} ms at {now.streams:g}")
        for name, (before, after) in waits.items()
        if before is not None and after is not None and after >= GROWN * before and after - before >= GROWN_MS
    ]
    return [line for _, line in sorted(grown, reverse=True)]
