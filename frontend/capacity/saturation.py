"""What is full first, and by which figures that is known. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frontend.capacity.servers import PARTS, ModelLoad
from frontend.capacity.slo import CLIENT_LAG_MS
from frontend.capacity.step import Step

FULL = 0.85
"""Of a core's or a thread's time, slots, memory. At 85 % one waits five to six times as long as one is served (M/M/1)."""
MACHINE_FULL = 0.9
"""Of all cores: what is left is between bursts."""
OTHERS = 0.25
"""Of all cores: what other programs may use before a measurement is about them."""
GROWN, GROWN_MS = 2.0, 20.0
"""A wait that is so many times what it was, and by so many milliseconds longer, has grown."""
CONNECTIONS = "TOO_MANY_CONNECTIONS"

WORDS = {
    "client": "this command itself, which sends the streams",
    "front end": "the front end: its busiest worker's core",
    "VAD": "the model of voice activity (VAD)",
    "encoder": "the encoder",
    "decoder": "the decoder: the thread that steps it",
    "slots": "the decoder's slots: all rows that it decodes together are taken",
    "GPU": "the GPU",
    "GPU memory": "the GPU's memory",
    "memory": "the machine's memory",
    "machine": "the machine: all its cores are in use",
    "other programs": "the machine, by other programs",
    "connections": "the limit of connections, VOICEFORGE_MAX_CONNECTIONS",
    "queue": "a queue, behind something that tells of no use",
}


@dataclass(frozen=True)
class Share:
    """How full something is; `of` says of what."""

    name: str
    share: float
    of: str

    @property
    def full(self) -> bool:
        return self.share >= (MACHINE_FULL if self.name == "machine" else FULL)

    def __str__(self) -> str:
        return f"{self.name}: {100 * self.share:.0f} % of {self.of}"


@dataclass(frozen=True)
class Saturation:
    """`what` is one of `WORDS`, or "" when nothing was full. `at`: streams of the first step in which it was."""

    what: str
    at: int | None
    evidence: list[str]

    def __str__(self) -> str:
        return f"Full first, at {counted(self.at or 0)}: {WORDS[self.what]}." if self.what else "Nothing was full."


def counted(n: int) -> str:
    return f"{n} stream{'s' * (n != 1)}"


def shares(step: Step) -> list[Share]:
    """Everything that can be full in a step and whose use is known, the fullest first."""
    found: list[Share] = [Share("client", step.usage.client_cores, "the core that its one thread can use")]
    if step.front.busiest is not None:
        found.append(Share("front end", step.front.busiest, "the core that a worker can use"))
    for part in PARTS:
        for m in step.triton.part(part):
            if m.busy is not None:
                found.append(Share(part, m.busy, f"the time of {m.model} ({m.instances} instance{'s' * (m.instances > 1)})"))
            if m.slots and m.batch:
                found.append(Share("slots", m.batch / m.slots, f"the {m.slots} rows that {m.model} decodes together"))
    if step.triton.gpu.busy is not None:
        found.append(Share("GPU", step.triton.gpu.busy, "the GPU's time"))
    if step.triton.gpu.memory is not None:
        found.append(Share("GPU memory", step.triton.gpu.memory, "the GPU's memory"))
    if step.usage.machine_memory is not None:
        found.append(Share("memory", step.usage.machine_memory, "the machine's memory, whoever uses it"))
    if step.usage.machine_cores is not None and step.usage.machine_total:
        total = step.usage.machine_total
        found.append(Share("machine", step.usage.machine_cores / total, f"its {total} cores, whoever uses them"))
    return sorted(found, key=lambda s: -s.share)


def saturation(steps: Sequence[Step]) -> Saturation:
    """Of the first step in which something was full; there is at least one step. Where nothing was, a late client is to
    blame: behind it nobody knows."""
    found = next(((what, s) for s in steps if (what := _full(s, steps[0]))), None)
    found = found or next((("client", s) for s in steps if s.verdict.void), None)
    if not found:
        return Saturation("", None, [*map(str, shares(steps[-1])), *waits_grown(steps[0], steps[-1])])
    what, step = found
    first = [str(s) for s in shares(step) if s.name == what]
    users = _users(step) if what in ("machine", "other programs") else []
    others = [str(s) for s in shares(step) if s.name != what]
    return Saturation(what, step.streams, [*_limits(step), *first, *users, *waits_grown(steps[0], step), *others])


def crowded(step: Step) -> bool:
    """Other programs use so much of the machine that a measurement is about them, too."""
    return bool(step.usage.machine_total) and (step.others_cores or 0.0) > OTHERS * (step.usage.machine_total or 0)


def _full(step: Step, first: Step) -> str:
    """Where all cores of the machine are in use, that is what is full: a part that waits for a core looks busy, too. A void
    step tells nothing else."""
    full = [s.name for s in shares(step) if s.full]
    if "machine" in full:
        return "other programs" if crowded(step) else "machine"
    if step.verdict.void:
        return ""
    if full:
        return full[0]
    if CONNECTIONS in step.heard.refusals:
        return "connections"
    return "queue" if step.verdict.broken and waits_grown(first, step) else ""


def _limits(step: Step) -> list[str]:
    lines = [f"{n} streams were refused with {code}" for code, n in step.heard.refusals.items()]
    if step.heard.client_lag_ms > CLIENT_LAG_MS:
        lines.append(f"this command sent audio up to {step.heard.client_lag_ms:.0f} ms late")
    return lines


def _users(step: Step) -> list[str]:
    """Who uses the machine's cores, and how many nobody of ours does."""
    ours = [("Triton", step.triton.cores), ("the front end", step.front.cores), ("this command", step.usage.client_cores)]
    known = sorted(((name, cores) for name, cores in ours if cores is not None), key=lambda k: -k[1])
    lines = [f"{name} uses {cores:.2f} cores" for name, cores in known]
    return lines if step.others_cores is None else [*lines, f"other programs use {step.others_cores:.2f} cores"]


def waits_grown(first: Step, now: Step) -> list[str]:
    """What was waited for longer than in the first step, the longest first."""

    def longest(step: Step, part: str, figure: Callable[[ModelLoad], float | None]) -> float | None:
        return max((v for m in step.triton.part(part) if (v := figure(m)) is not None), default=None)

    waits = {"VAD round trip (p95)": (first.front.vad_p95_ms, now.front.vad_p95_ms)}
    waits["final round trip (p95)"] = first.front.final_p95_ms, now.front.final_p95_ms
    waits["wait for a decode row (p95)"] = first.heard.decode_queue_ms["p95"], now.heard.decode_queue_ms["p95"]
    for part in PARTS:
        for what, figure in (("queue", lambda m: m.queue_ms), ("compute", lambda m: m.compute_ms)):
            waits[f"{part}: {what}"] = longest(first, part, figure), longest(now, part, figure)
    grown = [
        (after - before, f"{name}: {before:.0f} ms at {counted(first.streams)}, {after:.0f} ms at {now.streams}")
        for name, (before, after) in waits.items()
        if before is not None and after is not None and after >= GROWN * before and after - before >= GROWN_MS
    ]
    return [line for _, line in sorted(grown, reverse=True)]
