"""What live speech costs: CPU, memory and lag over the number of streams, the length of a session, and that of an utterance.

`python -m bench.cost` starts a server with `nano` anew for each of the three, plays held-out sentences to it in real time
from this process, and reads both servers' metrics meanwhile. Writes cost.{json,md,png} to bench/results/cost. What a session
is there to show: resident memory of every process is flat after the first quarter. An hour: `--only session --minutes 60`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from bench.streaming import RESULTS
from frontend.capacity.heard import Quantiles, heard
from frontend.capacity.own import own_server
from frontend.capacity.probe import Probe
from frontend.capacity.ramp import GAP_S, Run, climb, load
from frontend.capacity.servers import MIB, Reading
from frontend.capacity.slo import judge
from frontend.capacity.speech import RATE, Clip, enough, synthesised
from frontend.capacity.step import Step, step
from frontend.capacity.stream import Measured
from frontend.capacity.target import Target

mpl.use("Agg")
from matplotlib import pyplot as plt

PAUSE_S = 0.2
"""Within a long utterance, where a sentence ends: too short to end the utterance."""
WINDOWS, MOST_READINGS = 12, 600
"""Of a session."""
WARM_UP = 0.25
"""Share of a session in which memory may grow: pools, arenas and caches fill."""
FLAT_MIB, FLAT_SHARE = 2.0, 0.02
"""Memory is flat when it grows by no more than this, or by no more than this share of it."""
STREAMS, SESSION, LENGTH = "streams", "minutes of a session", "seconds of an utterance"


@dataclass(frozen=True)
class Row:
    """`x`: of what is varied. Cores and MiB are those of the server's parts. Lags in milliseconds, without the hang."""

    x: float
    streams: int
    front_cores: float
    triton_cores: float
    cpu_s_per_speech_s: float | None
    front_mib: float
    triton_mib: float
    first_partial_ms: Quantiles
    final_lag_ms: Quantiles
    missed: int
    errors: list[str]
    refused: int
    client_lag_ms: float


@dataclass(frozen=True)
class Growth:
    """Resident MiB of a process: medians of a tenth of the session, after the warm-up and at the end."""

    warm: float
    end: float

    @property
    def flat(self) -> bool:
        return self.end - self.warm <= max(FLAT_MIB, FLAT_SHARE * self.warm)


@dataclass
class Found:
    """Rows by what was varied; of the session also the memory of each process over its minutes."""

    rows: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    minutes: list[float] = field(default_factory=list[float])
    memory: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def growth(self) -> dict[str, Growth]:
        return {name: growth(values) for name, values in self.memory.items()}


class Lines:
    """Rows on the terminal as they come."""

    def now(self, what: str) -> None: ...

    def done(self, step: Step) -> None:
        print(f"  {step.streams} streams: {step.verdict}", file=sys.stderr, flush=True)


def row(x: float, found: Step, speech_share: float) -> Row:
    h, cores = found.heard, (found.front.cores or 0.0, found.triton.cores or 0.0)
    speaking = found.streams * speech_share
    return Row(
        x, found.streams, *cores, round(sum(cores) / speaking, 4) if speaking else None, found.front.memory_mib or 0.0,
        found.triton.memory_mib or 0.0, h.first_partial_ms, h.final_lag_ms, h.missed, h.errors, h.refused, h.client_lag_ms,
    )  # fmt: skip


def speech_share(said: Sequence[Clip]) -> float:
    """Of the time, with the silence after each."""
    return sum(c.speech_end - c.speech_start for c in said) / sum(len(c.audio) + GAP_S * RATE for c in said)


async def over_streams(target: Target, speech: Sequence[Clip], numbers: Sequence[int], seconds: float) -> list[Row]:
    run = Run()
    with Probe(target) as probe:
        await climb(target, probe, run, numbers, speech, seconds, Lines(), to_the_end=True)
    return [row(s.streams, s, speech_share(enough(speech, seconds, GAP_S))) for s in run.steps]


async def over_session(target: Target, speech: Sequence[Clip], minutes: float, streams: int, found: Found) -> list[Row]:
    """One row for each window; the memory of each process goes to `found`."""
    said = enough(speech, 60 * minutes, GAP_S)
    with Probe(target) as probe:
        readings, _, results = await load(
            target, probe, said, streams, Lines(), every_s=max(1.0, 60 * minutes / MOST_READINGS)
        )
    readings = readings[:-1]  # the last one is after the end
    found.minutes = [(r.at - readings[0].at) / 60 for r in readings]
    found.memory = memory(readings)
    n = max(1, min(WINDOWS, len(readings) // 4))
    share = speech_share(said)
    return [
        row(found.minutes[end - 1], one_step(streams, readings[begin:end], some), share)
        for (begin, end), some in zip(windows(len(readings), n), by_time(results, n), strict=True)
    ]


async def over_lengths(
    target: Target, speech: Sequence[Clip], lengths: Sequence[float], streams: int, utterances: int
) -> list[Row]:
    rows: list[Row] = []
    with Probe(target) as probe:
        for seconds in lengths:
            said = [utterance(speech, seconds, 7 * k) for k in range(utterances)]
            readings, full, results = await load(target, probe, said, streams, Lines())
            rows.append(row(seconds, one_step(streams, readings, results, full), speech_share(said)))
    return rows


def one_step(
    streams: int, readings: Sequence[Reading], results: Sequence[Measured], full: tuple[float, float] = (0.0, float("inf"))
) -> Step:
    saw = heard(results, None)
    return step(streams, readings, full, saw, judge(saw, saw))


def memory(readings: Sequence[Reading]) -> dict[str, list[float]]:
    """Resident MiB of each process, reading by reading."""
    out: dict[str, list[float]] = {}
    for r in readings:
        seen = {"front end": r.front.total("process_resident_memory_bytes")}
        seen["tritonserver"] = r.triton.most("voiceforge_tritonserver_memory_bytes") or 0.0
        for name, value in (seen | r.triton.by("voiceforge_model_memory_bytes", "model")).items():
            out.setdefault(name, []).append(round(value / MIB, 2))
    return out


def growth(mib: Sequence[float]) -> Growth:
    warm, tenth = int(WARM_UP * len(mib)), max(1, len(mib) // 10)
    return Growth(float(np.median(mib[warm : warm + tenth])), float(np.median(mib[-tenth:])))


def windows(n_readings: int, n: int) -> list[tuple[int, int]]:
    """So many ranges, each with the first reading of the next as its last one."""
    edges = np.linspace(0, n_readings - 1, n + 1).round().astype(int)
    return [(int(a), int(b) + 1) for a, b in itertools.pairwise(edges)]


def by_time(results: Sequence[Measured], n: int) -> list[list[Measured]]:
    """Each stream's sentences in so many equal parts, in their order; nobody knows when one without a final, an error or the
    client's own lag was: they stand in the last one."""
    out: list[list[Measured]] = []
    for k in range(n):
        last = k == n - 1
        out.append([
            Measured(
                first_partial=list(np.array_split(m.first_partial, n)[k]),
                final_lag=list(np.array_split(m.final_lag, n)[k]),
                missed=m.missed if last else [],
                errors=m.errors if last else [],
                refusal=m.refusal,
                client_lag=m.client_lag if last else 0.0,
            )
            for m in results
        ])  # fmt: skip
    return out


def utterance(speech: Sequence[Clip], seconds: float, first: int) -> Clip:
    """Sentences from number `first` on, with pauses too short to end an utterance, cut off after so many seconds."""
    pause, length = np.zeros(round(PAUSE_S * RATE), np.int16), round(seconds * RATE)
    parts: list[Any] = []
    n = 0
    while n < length:
        clip = speech[first % len(speech)]
        parts += [clip.audio[clip.speech_start : clip.speech_end], pause]
        n, first = n + len(parts[-2]) + len(pause), first + 1
    audio = np.concatenate([pause, np.concatenate(parts)[:length]])
    return Clip(audio, "", len(pause), len(audio))


def table(what: str, rows: Sequence[Row]) -> list[str]:
    head = [what, "streams at once", "front end / Triton, cores", "CPU s per s of speech", "front end / Triton, MiB",
            "first partial p50 / p95", "final lag p50 / p95", "missed, errors, refused", "client late"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for r in rows:
        cost = "-" if r.cpu_s_per_speech_s is None else f"{r.cpu_s_per_speech_s:.3f}"
        lines.append(
            f"| {r.x:.3g} | {r.streams} | {r.front_cores:.2f} / {r.triton_cores:.2f} | {cost} | {r.front_mib:.0f} / "
            f"{r.triton_mib:.0f} | {_both(r.first_partial_ms)} | {_both(r.final_lag_ms)} | {r.missed}, {len(r.errors)}, "
            f"{r.refused} | {r.client_lag_ms:.0f} ms |"
        )
    return [*lines, ""]


def growth_table(found: Mapping[str, Growth]) -> list[str]:
    rows = [f"| {name} | {g.warm:.1f} | {g.end:.1f} | {'flat' if g.flat else 'grows'} |" for name, g in found.items()]
    return ["| process | MiB after the first quarter | at the end | |", "|---|---|---|---|", *rows, ""] if rows else []


def _both(q: Quantiles) -> str:
    return " / ".join("-" if (v := q[p]) is None else f"{v:,.0f}" for p in ("p50", "p95")) + " ms"


def draw(found: Found, path: Path) -> None:
    """A row of pictures for each of what was varied: cores, memory, lags."""
    figure, grid = plt.subplots(len(found.rows), 3, figsize=(13, 3.4 * len(found.rows)), dpi=100, squeeze=False)
    for (what, rows), (used, held, late) in zip(found.rows.items(), grid, strict=True):
        xs = [r.x for r in rows]
        used.plot(xs, [r.triton_cores for r in rows], marker="o", markersize=3, label="Triton")
        used.plot(xs, [r.front_cores for r in rows], marker="o", markersize=3, label="front end")
        if what == SESSION:
            for name, values in found.memory.items():
                held.plot(found.minutes, values, label=name)
        else:
            held.plot(xs, [r.triton_mib for r in rows], marker="o", markersize=3, label="Triton")
            held.plot(xs, [r.front_mib for r in rows], marker="o", markersize=3, label="front end")
        for title, colour in (("first_partial_ms", "C2"), ("final_lag_ms", "C3")):
            for quantile, style in (("p50", "--"), ("p95", "-")):
                values = [getattr(r, title)[quantile] for r in rows]
                label = f"{title.removesuffix('_ms').replace('_', ' ')} {quantile}"
                numbers = [float("nan") if v is None else v for v in values]
                late.plot(xs, numbers, style, color=colour, marker="o", markersize=3, label=label)
        for axis, title in ((used, "cores"), (held, "resident memory, MiB"), (late, "ms")):
            axis.set(xlabel=what, title=title)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.25)
            axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def write(found: Found, conditions: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "conditions": conditions,
        "rows": {what: [asdict(r) for r in rows] for what, rows in found.rows.items()},
        "growth": {name: asdict(g) | {"flat": g.flat} for name, g in found.growth.items()},
        "memory": {"minutes": found.minutes, **found.memory},
    }
    (folder / "cost.json").write_text(json.dumps(content, indent=1) + "\n")
    text = [part for what, rows in found.rows.items() for part in table(what, rows)] + growth_table(found.growth)
    (folder / "cost.md").write_text("\n".join(text))
    draw(found, folder / "cost.png")


async def measure(args: argparse.Namespace, found: Found) -> None:
    speech = synthesised(60)

    def server(what: str) -> AbstractAsyncContextManager[Target]:
        print(f"{what}:", file=sys.stderr, flush=True)
        return own_server("nano", "", lambda _: None)

    if "streams" in args.only:
        async with server(STREAMS) as target:
            found.rows[STREAMS] = await over_streams(target, speech, args.streams, args.seconds)
    if "session" in args.only:
        async with server(SESSION) as target:
            found.rows[SESSION] = await over_session(target, speech, args.minutes, args.session_streams, found)
    if "length" in args.only:
        async with server(LENGTH) as target:
            found.rows[LENGTH] = await over_lengths(target, speech, args.lengths, args.length_streams, args.utterances)


def main() -> None:
    every = ["streams", "session", "length"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 10, 20, 30])
    parser.add_argument("--seconds", type=float, default=30, help="of each step of --streams")
    parser.add_argument("--minutes", type=float, default=5, help="length of the session, in real time")
    parser.add_argument("--session-streams", type=int, default=4, help="sessions of that length at once")
    parser.add_argument("--lengths", type=float, nargs="+", default=[1, 2, 5, 10, 20], help="seconds of an utterance")
    parser.add_argument("--length-streams", type=int, default=4, help="streams at once that say them")
    parser.add_argument("--utterances", type=int, default=3, help="of each length, by each stream")
    parser.add_argument("--out", type=Path, default=RESULTS / "cost")
    args = parser.parse_args()
    os.environ |= {"VOICEFORGE_MAX_CONNECTIONS": "1000", "VOICEFORGE_MAX_SESSION_S": str(60 * args.minutes + 3600)}
    load_before, found = os.getloadavg(), Found()
    asyncio.run(measure(args, found))
    conditions = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gap_s": GAP_S}
    write(found, conditions | {"load_average_before": load_before}, args.out)
    print((args.out / "cost.md").read_text())
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
