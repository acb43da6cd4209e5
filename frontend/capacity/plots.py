"""The measurement as a picture, where matplotlib is installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from frontend.capacity.saturation import FULL
from frontend.capacity.servers import PARTS
from frontend.capacity.slo import FINAL_LAG_MS
from frontend.capacity.step import Step

COLOURS = {"VAD": "#c77f1a", "encoder": "#1a7f5a", "decoder": "#2b62a8", "front end": "#8a3fa0", "client": "#9aa7b2"}
LIMIT, BLACK = "#b3261e", "#1b2733"


@dataclass(frozen=True)
class Line:
    name: str
    values: list[float | None]
    """Over the steps."""
    colour: str | None = None
    style: str = "-"


@dataclass(frozen=True)
class Panel:
    title: str
    lines: list[Line]
    limit: tuple[float, str] | None = None
    """Where a line is drawn across, and what it is."""


def can_draw() -> bool:
    return find_spec("matplotlib") is not None


def draw(steps: Sequence[Step], knee: int | None) -> bytes:
    """PNG. Void steps are grey; the knee is marked in the first panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [_lags(steps), _partials(steps), _full(steps), _waits(steps), _cores(steps), _memory(steps)]
    figure = Figure(figsize=(11, 10), dpi=110)
    for i, panel in enumerate(panels):
        axis = figure.add_subplot(3, 2, i + 1)
        _draw(axis, [s.streams for s in steps], panel)
        for s in steps:
            if s.verdict.void:
                axis.axvline(s.streams, color="#d5dde3", linewidth=8, zorder=0)
        if knee and i == 0:
            axis.axvline(knee, color=BLACK, linestyle=":", linewidth=1)
            axis.text(knee, axis.get_ylim()[1], " knee", fontsize=8, va="top", color=BLACK)
    if any(s.verdict.void for s in steps):
        figure.text(0.01, 0.005, "grey: void, this command was late", fontsize=8, color="#6b7985")
    figure.tight_layout(rect=(0, 0.015, 1, 1))
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _draw(axis: Any, streams: Sequence[int], panel: Panel) -> None:
    for line in panel.lines:
        known = [(a, b) for a, b in zip(streams, line.values, strict=True) if b is not None]
        if known:
            x, y = zip(*known, strict=True)
            axis.plot(x, y, line.style, marker="o", markersize=3, label=line.name, color=line.colour)
    if panel.limit:
        axis.axhline(panel.limit[0], color=LIMIT, linestyle="--", linewidth=1, label=panel.limit[1])
    axis.set_title(panel.title, fontsize=10)
    axis.set_xlabel("streams")
    axis.set_xticks(sorted(set(streams)))
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _lags(steps: Sequence[Step]) -> Panel:
    colours = {"p50": "#7fa6d6", "p95": COLOURS["decoder"]}
    lines = [Line(f"final lag {q}", [s.heard.final_lag_ms[q] for s in steps], c) for q, c in colours.items()]
    lines.append(Line("engine lag p95", [s.front.engine_lag_p95_ms for s in steps], COLOURS["client"]))
    return Panel("how late: final lag without the hang, ms", lines, (FINAL_LAG_MS, "SLO of p95"))


def _partials(steps: Sequence[Step]) -> Panel:
    colours = {"p50": "#7fa6d6", "p95": COLOURS["decoder"]}
    lines = [Line(q, [s.heard.first_partial_ms[q] for s in steps], c) for q, c in colours.items()]
    return Panel("how late: first partial after speech begins, ms", lines)


def _full(steps: Sequence[Step]) -> Panel:
    lines = [Line(p, [_most([m.busy for m in s.triton.part(p)], 100) for s in steps], COLOURS[p]) for p in PARTS]
    slots = [_most([m.batch / m.slots for m in s.triton.models if m.batch and m.slots], 100) for s in steps]
    lines += [
        Line("decoder's slots", slots, "#7fa6d6", "--"),
        Line("front end", [_most([s.front.busiest], 100) for s in steps], COLOURS["front end"]),
        Line("this command", [100 * s.usage.client_cores for s in steps], COLOURS["client"]),
        Line("GPU", [_most([s.triton.gpu.busy], 100) for s in steps], BLACK),
    ]
    return Panel("how full: % of what each can use", lines, (100 * FULL, "taken for full"))


def _waits(steps: Sequence[Step]) -> Panel:
    lines = [Line(f"{p}: queue", [_most([m.queue_ms for m in s.triton.part(p)]) for s in steps], COLOURS[p]) for p in PARTS]
    lines += [
        Line("a decode row p95", [s.heard.decode_queue_ms["p95"] for s in steps], "#7fa6d6", "--"),
        Line("VAD round trip p95", [s.front.vad_p95_ms for s in steps], "#e0b36b", "--"),
        Line("final round trip p95", [s.front.final_p95_ms for s in steps], BLACK, "--"),
    ]
    return Panel("where it waits, ms", lines)


def _cores(steps: Sequence[Step]) -> Panel:
    lines = [
        Line("Triton", [s.triton.cores for s in steps], COLOURS["decoder"]),
        Line("front end", [s.front.cores for s in steps], COLOURS["front end"]),
        Line("this command", [s.usage.client_cores for s in steps], COLOURS["client"]),
        Line("whole machine", [s.usage.machine_cores for s in steps], BLACK),
    ]
    total = next((n for s in steps if (n := s.usage.machine_total)), None)
    return Panel("CPU, cores", lines, (total, "the machine's") if total else None)


def _memory(steps: Sequence[Step]) -> Panel:
    lines = [
        Line("Triton", [s.triton.memory_mib for s in steps], COLOURS["decoder"]),
        Line("front end", [s.front.memory_mib for s in steps], COLOURS["front end"]),
    ]
    return Panel("resident memory, MiB", lines)


def _most(values: Sequence[float | None], scale: float = 1) -> float | None:
    return max((scale * v for v in values if v is not None), default=None)
