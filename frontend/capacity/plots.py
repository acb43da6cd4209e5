"""The measurement as a picture, where matplotlib is installed (`pip install 'voiceforge[capacity]'`)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from frontend.capacity.figures import PARTS, Step
from frontend.capacity.saturation import FULL
from frontend.capacity.slo import FINAL_LAG_MS

COLOURS = {"VAD": "#c77f1a", "encoder": "#1a7f5a", "decoder": "#2b62a8", "front end": "#8a3fa0", "client": "#9aa7b2"}
Line = tuple[str, list[float | None], str | None]
"""Name, values over the steps, colour."""
Panel = tuple[str, list[Line], float | None]
"""Title, lines, and where a limit is drawn."""


def can_draw() -> bool:
    return find_spec("matplotlib") is not None


def draw(steps: Sequence[Step], *, watched: bool) -> bytes:
    """PNG. `watched`: over the windows of watching, not over streams."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x = [float(i + 1) for i in range(len(steps))] if watched else [s.streams for s in steps]
    panels = [_full(steps), _waits(steps), _cores(steps), _memory(steps)]
    panels = [_lags(steps), *([] if watched else [_partials(steps)]), *panels]
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 3.3 * rows), dpi=110)
    for i, panel in enumerate(panels):
        axis = figure.add_subplot(rows, 2, i + 1)
        _draw(axis, x, panel)
        axis.set_xlabel("window" if watched else "streams")
    figure.tight_layout()
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _draw(axis: Any, x: Sequence[float], panel: Panel) -> None:
    title, lines, limit = panel
    for name, values, colour in lines:
        known = [(a, b) for a, b in zip(x, values, strict=True) if b is not None]
        if known:
            axis.plot([a for a, _ in known], [b for _, b in known], marker="o", markersize=3, label=name, color=colour)
    if limit is not None:
        axis.axhline(limit, color="#b3261e", linestyle="--", linewidth=1)
    axis.set_title(title, fontsize=10)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _lags(steps: Sequence[Step]) -> Panel:
    lines: list[Line] = [
        (f"final lag {q}", [s.heard.final_lag_ms[q] if s.heard else None for s in steps], None) for q in ("p50", "p95")
    ]
    lines.append(("engine lag p95", [s.front.engine_lag_p95_ms for s in steps], COLOURS["client"]))
    return "final lag without the hang, engine lag, ms", lines, FINAL_LAG_MS


def _partials(steps: Sequence[Step]) -> Panel:
    lines: list[Line] = [
        (q, [s.heard.first_partial_ms[q] if s.heard else None for s in steps], None) for q in ("p50", "p95")
    ]
    return "first partial after speech begins, ms", lines, None


def _full(steps: Sequence[Step]) -> Panel:
    lines: list[Line] = [
        (part, [_most([m.busy for m in s.part(part)], 100) for s in steps], COLOURS[part]) for part in PARTS
    ]
    lines.append(("front end", [_most([s.front.busiest], 100) for s in steps], COLOURS["front end"]))
    lines.append(("client", [100 * s.usage.client_cores if s.heard else None for s in steps], COLOURS["client"]))
    lines.append(("GPU", [_most([s.gpu], 100) for s in steps], "#000000"))
    return "how full, % of what each can use", lines, 100 * FULL


def _waits(steps: Sequence[Step]) -> Panel:
    lines: list[Line] = [
        (f"{part}: queue", [_most([m.queue_ms for m in s.part(part)]) for s in steps], COLOURS[part]) for part in PARTS
    ]
    rows = [s.heard.decode_queue_ms["p95"] if s.heard else None for s in steps]
    lines += [("a decode row p95", rows, "#7fa6d6"), ("VAD round trip p95", [s.front.vad_p95_ms for s in steps], "#e0b36b")]
    return "waits, ms", lines, None


def _cores(steps: Sequence[Step]) -> Panel:
    lines: list[Line] = [
        ("Triton", [s.triton_cores for s in steps], COLOURS["decoder"]),
        ("front end", [s.front.cores for s in steps], COLOURS["front end"]),
        ("client", [s.usage.client_cores if s.heard else None for s in steps], COLOURS["client"]),
        ("whole machine", [s.usage.machine_cores for s in steps], "#000000"),
    ]
    return "CPU, cores", lines, next((float(n) for s in steps if (n := s.usage.machine_total)), None)


def _memory(steps: Sequence[Step]) -> Panel:
    lines: list[Line] = [
        ("Triton", [s.triton_memory_mib for s in steps], COLOURS["decoder"]),
        ("front end", [s.front.memory_mib for s in steps], COLOURS["front end"]),
    ]
    return "resident memory, MiB", lines, None


def _most(values: Sequence[float | None], scale: float = 1) -> float | None:
    return max((scale * v for v in values if v is not None), default=None)
