"""Pictures of measurements, drawn by matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from bench.local import RATE, LocalEngine, Pcm, Playing
from frontend.speech.events import Final, Partial, SpeechEnded, SpeechStarted
from frontend.speech.settings import SessionSettings
from frontend.speech.vad_gate import FRAME

mpl.use("Agg")
from matplotlib import pyplot as plt

INK, STABLE, RUNNING = "#1b2733", "#1a7f5a", "#9aa7b2"


def reliability_points(confidence: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[list[float]]:
    """[mean confidence, share right, words] of each bin that holds any."""
    p, y = np.array(confidence), np.array(right, float)
    which = np.minimum((p * bins).astype(int), bins - 1)
    held = [b for b in range(bins) if (which == b).any()]
    return [[round(float(v), 4) for v in (p[which == b].mean(), y[which == b].mean(), (which == b).sum())] for b in held]


def reliability(found: dict[str, Any], path: Path) -> None:
    """Share of right words over their confidence: on the diagonal, confidence can be taken at its word."""
    figure, axis = plt.subplots(figsize=(5, 5), dpi=110)
    axis.plot([0, 1], [0, 1], color=RUNNING, linestyle="--", linewidth=1)
    for name, row in found.items():
        points = np.array(row["diagram"])
        axis.plot(points[:, 0], points[:, 1], marker="o", label=f"{name}, ECE {row['ece']:.3f}")
    axis.set_xlabel("word confidence")
    axis.set_ylabel("share of words that are right")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def stream(engine: LocalEngine, audio: Pcm, path: Path) -> None:
    """One utterance over time: what was sent, what the VAD heard, what was told when, and what of it was settled."""
    told = Playing(engine, SessionSettings()).play(audio)
    heard = engine.speech_probabilities(audio)
    results = [t for t in told if isinstance(t.event, Partial | Final)]
    figure, (wave, vad, text) = plt.subplots(
        3, 1, sharex=True, figsize=(11, 3 + 0.34 * len(results)), dpi=110,
        gridspec_kw={"height_ratios": [1, 0.7, 0.5 + 0.34 * len(results)]},
    )  # fmt: skip
    seconds = len(audio) / RATE
    wave.plot(np.arange(0, len(audio), 16) / RATE, audio[::16] / 32768, color=INK, linewidth=0.4)
    wave.set_ylabel("audio")
    vad.fill_between(np.arange(len(heard)) * FRAME / RATE, heard, step="post", color="#c7d8e8")
    vad.set_ylabel("speech")
    for t in told:
        if isinstance(t.event, SpeechStarted | SpeechEnded):
            vad.axvline(t.at / RATE, color="#c0392b", linewidth=1)
    for k, t in enumerate(results):
        event, y = t.event, len(results) - k
        assert isinstance(event, Partial | Final)
        n = len(event.words) if isinstance(event, Final) else event.n_stable
        text.plot([t.at / RATE], [y], marker="o", color=STABLE if isinstance(event, Final) else RUNNING, markersize=4)
        settled, rest = (" ".join(w.text for w in part) for part in (event.words[:n], event.words[n:]))
        first = text.text(t.at / RATE - 0.05, y, settled, color=STABLE, va="center", ha="right", fontsize=8, weight="bold")
        text.annotate(rest, (1, 0.5), xycoords=first, va="center", fontsize=8, color=RUNNING, xytext=(10, 0),
                      textcoords="offset points")  # fmt: skip
    text.set_ylim(0, len(results) + 1)
    text.set_xlim(0, seconds)
    text.set_yticks([])
    text.set_ylabel("told (bold: settled)")
    text.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
