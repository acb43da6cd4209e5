"""What the streams of one step saw, taken together. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frontend.capacity.stream import Measured

HANG_S = 0.5
"""Endpointing silence of the streams, which is not counted as lag."""
EARLY_S = 0.2
"""A final so much before the hang was over was told while someone still spoke."""
Quantiles = dict[str, float | None]
"""p50 and p95 in milliseconds; None where too little was seen."""


@dataclass(frozen=True)
class Heard:
    """`wer` in percent, None without texts."""

    connect_ms: Quantiles
    first_partial_ms: Quantiles
    final_lag_ms: Quantiles
    """Without the hang."""
    server_lag_ms: Quantiles
    """Of the same finals as the server tells it, without network and client."""
    decode_queue_ms: Quantiles
    """What finals waited for a place among the rows that are decoded."""
    sentences: int
    missed: int
    early: int
    wer: float | None
    words: int
    errors: list[str]
    refusals: dict[str, int]
    client_lag_ms: float
    """How late the latest chunk left."""

    @property
    def final_lag_p95_ms(self) -> float | None:
        return self.final_lag_ms["p95"]

    @property
    def n_errors(self) -> int:
        return len(self.errors)

    @property
    def refused(self) -> int:
        return sum(self.refusals.values())


def heard(results: Sequence[Measured], errors_and_words: tuple[int, int] | None) -> Heard:
    """`errors_and_words`: of the texts, where they are known."""
    played = [m for m in results if not m.refused]
    missed = sum(len(m.missed) for m in played)
    lag = [v for m in played for v in m.final_lag]
    errors, words = errors_and_words or (0, 0)
    return Heard(
        quantiles([m.connect for m in played if m.connect]),
        quantiles([v for m in played for v in m.first_partial]),
        quantiles([v - HANG_S for v in lag], missed),
        quantiles([v for m in played for v in m.server_lag]),
        quantiles([v for m in played for v in m.decode_queue]),
        len(lag) + missed,
        missed,
        sum(v < HANG_S - EARLY_S for v in lag),
        round(100 * errors / words, 2) if words else None,
        words,
        [e for m in played for e in m.errors],
        dict(Counter(m.refusal for m in results if m.refused)),
        round(1000 * max((m.client_lag for m in played), default=0.0), 1),
    )


def quantiles(seconds: Sequence[float], endless: int = 0) -> Quantiles:
    """In milliseconds, of the values and so many more without end; None where these weigh in, or nothing was seen."""
    out: Quantiles = {}
    n = len(seconds) + endless
    filled = [*seconds, *[max(seconds, default=0.0)] * endless]  # what stands for the endless is not looked at
    for q in (50, 95):
        told = bool(seconds) and math.ceil(q / 100 * (n - 1)) < len(seconds)
        out[f"p{q}"] = round(1000 * float(np.percentile(filled, q)), 1) if told else None
    return out
