"""What was measured, as JSON, as a table for the documentation, and as one picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.streams.measure import Row
from bench.streams.servers import CANDIDATES
from bench.streams.slo import FINAL_LAG_MS
from export.nano.evaluate import NORMALISER

mpl.use("Agg")
from matplotlib import pyplot as plt

HEADER = (
    "| server | streams | first partial p50 / p95 | final lag p50 / p95 | marked final p50 / p95 | WER | CPU s per audio s "
    "| memory | SLO |\n|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """A row of the table."""

    def pair(found: Mapping[str, float | None]) -> str:
        return " / ".join("-" if found[q] is None else f"{found[q]:.0f}" for q in ("p50", "p95")) + " ms"

    return (
        f"| {row.server} | {row.streams} | {pair(row.first_partial_ms)} | {pair(row.final_lag_ms)} | "
        f"{pair(row.committed_lag_ms)} | {row.wer:.1f} % of {row.words} | {row.cpu_s_per_audio_s:.3f} | "
        f"{row.peak_mib:.0f} MiB | {row.verdict} |"
    )


def conditions(seconds: float, gap_s: float, niceness: int, threads: int) -> dict[str, Any]:
    cpu = next((x.split(":")[1].strip() for x in _cpuinfo() if x.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "seconds_a_stream": seconds,
        "gap_s": gap_s,
        "server_niceness": niceness,
        "threads_of_a_decode_of_the_others": threads,
        "normaliser": NORMALISER,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def write(
    folder: Path, found: Mapping[str, int], failed: Mapping[str, str], rows: Sequence[Row], told: Mapping[str, Any]
) -> None:
    """`found`: streams at SLO of each server; `failed`: why one was left out."""
    settings = {name: CANDIDATES[name].settings for name in found}
    content = {
        "conditions": told,
        "settings": settings,
        "streams_at_slo": found,
        "left_out": failed,
        "rows": [asdict(r) for r in rows],
    }
    (folder / "streams.json").write_text(json.dumps(content, indent=1) + "\n")
    text = ["| server | streams at SLO | settings |", "|---|---|---|"]
    text += [f"| {name} | {n} | {settings[name]} |" for name, n in found.items()]
    text += [f"| {name} | left out | {why} |" for name, why in failed.items()]
    text += ["", HEADER, *map(line, rows)]
    (folder / "streams.md").write_text("\n".join(text) + "\n")
    if rows:
        draw(rows, folder / "streams.png")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Final lag, solid p95 and dashed p50, and WER over the streams; of each step the last try that is not void."""
    figure, (lag, wer) = plt.subplots(1, 2, figsize=(11, 4.2), dpi=110)
    last = {(r.server, r.streams): r for r in rows if not r.verdict.startswith("void")}
    for number, server in enumerate(dict.fromkeys(r.server for r in rows)):
        mine = [r for (name, _), r in sorted(last.items()) if name == server]
        streams, colour = [r.streams for r in mine], f"C{number}"
        for quantile, style in (("p95", "-"), ("p50", "--")):
            values = [float("nan") if r.final_lag_ms[quantile] is None else r.final_lag_ms[quantile] for r in mine]
            label = server if quantile == "p95" else None
            lag.plot(streams, values, color=colour, linestyle=style, marker="o", label=label)
        wer.plot(streams, [r.wer for r in mine], color=colour, marker="o")
    lag.axhline(FINAL_LAG_MS, color="#9aa7b2", linewidth=1)
    lag.set_yscale("symlog", linthresh=100)
    lag.set_ylim(bottom=0)
    lag.set_ylabel("final lag, ms (solid p95, dashed p50)")
    wer.set_ylabel("word error rate, %")
    wer.set_ylim(bottom=0)
    steps = sorted({r.streams for r in rows})
    for axis in (lag, wer):
        axis.set_xscale("log")
        axis.set_xlabel("streams")
        axis.set_xticks(steps, [str(n) for n in steps])
        axis.minorticks_off()
    lag.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
