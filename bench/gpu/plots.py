"""Pictures of the results, drawn without a screen."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

from bench.gpu.plan import FINAL_LAG_MS
from bench.gpu.results import Results

mpl.use("Agg")
from matplotlib import pyplot as plt

GREY = "#9aa7b2"


def engine(results: Results, path: Path) -> bool:
    """Audio seconds per wall second over windows in flight; False when there is nothing to draw."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for key, row in results.part("engine").items():
        label, n = key.rsplit(", ", 1)
        if "failed" not in row:
            lines[label].append((int(n), row["audio_s_per_wall_s"]))
    if not lines:
        return False
    figure, axis = plt.subplots(figsize=(9, 5), dpi=110)
    for label, points in lines.items():
        x, y = zip(*sorted(points), strict=True)
        axis.plot(x, y, marker="o", label=label, linestyle="--" if label.startswith("faster-whisper") else "-")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("windows in flight")
    axis.set_ylabel("seconds of audio a second")
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return True


def streams(results: Results, path: Path) -> bool:
    """Final lag and first partial over streams, with the promise drawn in; False when there is nothing to draw."""
    models = [p.removeprefix("streams ") for p in results.content["parts"] if p.startswith("streams ")]
    figure, (lag, gpu) = plt.subplots(2, 1, sharex=True, figsize=(9, 7), dpi=110, height_ratios=[2, 1])
    drawn = False
    for model in models:
        rows = sorted(
            (r for k, r in results.part(f"streams {model}").items() if k.isdigit() and r["utterances"]),
            key=lambda r: r["streams"],
        )
        if not rows:
            continue
        drawn = True
        x = [r["streams"] for r in rows]
        for quantile, style in (("p50", ":"), ("p95", "-")):
            y = [r["final_lag_without_hang_ms"][quantile] for r in rows]
            lag.plot(x, y, style, marker="o", label=f"{model}: final lag without the hang, {quantile}")
        if all(r["gpu"] for r in rows):
            gpu.plot(x, [r["gpu"]["gpu_percent"] for r in rows], marker="o", label=model)
    if drawn:
        lag.axhline(FINAL_LAG_MS, color=GREY, linestyle="--")
        lag.set_ylabel("milliseconds")
        lag.legend(fontsize=8)
        gpu.set_ylabel("GPU busy, percent")
        gpu.set_ylim(0, 100)
        gpu.set_xlabel("live streams")
        figure.tight_layout()
        figure.savefig(path)
    plt.close(figure)
    return drawn


def draw(results: Results) -> list[Path]:
    """Beside the results; returns what was drawn."""
    wanted = {"engine.png": engine, "streams.png": streams}
    paths = {name: results.path.with_name(name) for name in wanted}
    return [paths[name] for name, picture in wanted.items() if picture(results, paths[name])]
