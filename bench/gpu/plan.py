"""How much is measured, what is served how, and what is chosen by the figures of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export.triton_config import Tuning

Row = Mapping[str, Any]

FINAL_LAG_MS = 500.0
WER_POINTS = 0.5
CLIENT_LAG_MS = 100.0
"""A load generator that was later than this proves nothing."""
KEPT = "kept"
ENCODER_MS = 40.0
"""The longest that decoding rows wait for a batch of windows to be encoded: under a tenth of what a final may take."""


@dataclass(frozen=True)
class Sizes:
    """One plan. Seconds are of wall clock."""

    shape: str = "base"
    """Of `checkpoint.SHAPES`, for the model called base."""
    n_tokens: int = 24
    """Of the made-up text: eight seconds of speech at three tokens a second."""
    n_clips: int = 60
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    row_s: float = 6.0
    """For one row of the engine."""
    calm_streams: int = 20
    """So few that the engine is idle most of the time: their texts are what texts under load are held against."""
    streams: Sequence[int] = (50, 100, 200, 300, 400, 500, 600, 700, 850, 1000)
    utterances: int = 4
    """A stream's."""
    tunings: Sequence[tuple[int, int]] = ((1, 64), (2, 32), (4, 32), (6, 16))
    """(instances, rows of each) to choose among, at `probe_streams`."""
    probe_streams: int = 300
    vad_instances: int = 3
    workers: int = 4
    load_processes: int = 4
    start_s: float = 120.0


FULL = Sizes()
QUICK = Sizes(batches=(1, 8, 64), row_s=3.0, streams=(100, 300, 500, 700, 1000), utterances=3, tunings=((2, 32), (4, 32)))
DRY = Sizes(
    shape="toy", n_tokens=6, n_clips=4, batches=(1, 2), row_s=0.3, calm_streams=1, streams=(2, 3), utterances=1,
    tunings=((1, 4), (2, 2)), probe_streams=2, vad_instances=1, workers=2, load_processes=2,
)  # fmt: skip
"""Of the code, not of the machine."""


@dataclass(frozen=True)
class Target:
    """What is measured where."""

    device: str
    sizes: Sizes = field(default_factory=Sizes)

    def tuning(self, **options: Any) -> Tuning:
        return Tuning(device=self.device, slots=True, **options)


def choose_encoder_batch(rows: Mapping[int, Row]) -> int:
    """The smallest batch that gives nine tenths of the best throughput among those short enough; 1 if none is."""
    usable = {b: r for b, r in rows.items() if "failed" not in r and (r["batch_ms"] <= ENCODER_MS or b == 1)}
    if not usable:
        return 1
    best = max(r["windows_per_s"] for r in usable.values())
    return min(b for b, r in usable.items() if r["windows_per_s"] >= 0.9 * best)


def choose_cuda_graphs(rows: Mapping[bool, Row]) -> bool:
    """Replaying steps is worth its memory from a tenth less time on; what failed or says something else is not chosen."""
    plain, replayed = rows.get(False), rows.get(True)
    if not plain or not replayed or "failed" in replayed or "failed" in plain:
        return False
    return bool(replayed["same_text"]) and replayed["step_ms"] <= 0.9 * plain["step_ms"]


def choose_tuning(rows: Mapping[tuple[int, int], Row]) -> tuple[int, int]:
    """Of (instances, rows): the least p95 lag without failures; what is within a tenth of it, with the fewest processes.

    Raises `ValueError` when none ran.
    """
    lags = {
        k: r["final_lag_without_hang_ms"]["p95"]
        for k, r in rows.items()
        if "failed" not in r and r["utterances"] and not r["errors"]
    }
    if not lags:
        raise ValueError("no tuning could be served; see the rows of the part `tuning` for why")
    best = min(lags.values())
    return min(k for k, lag in lags.items() if lag <= best + max(0.1 * abs(best), 10.0))


def verdict(row: Row, *, judged_by_text: bool) -> str:
    """`kept`, `void`, or what a row of streams broke of the promise. The words are those of docs/performance.md."""
    if "failed" in row:
        return "failed"
    if row["client_lag_ms"] > CLIENT_LAG_MS:
        return "void: the load generator was late"
    faults = {
        "errors": bool(row["errors"]),
        "refused": bool(row["refused"]),
        "no finals": not row["utterances"],
        "final lag": row["utterances"] and row["final_lag_without_hang_ms"]["p95"] >= FINAL_LAG_MS,
        "text": judged_by_text and row["wer"] - row["calm_wer"] > WER_POINTS,
    }
    return ", ".join(k for k, v in faults.items() if v) or KEPT


def broken(verdict: str) -> bool:
    """Whether it counts against the promise; what is void tells nothing."""
    return verdict != KEPT and not verdict.startswith("void")


def streams_at_slo(rows: Sequence[Row]) -> int:
    """The most streams of a row that kept the promise, with no row of fewer streams that broke it."""
    found = 0
    for row in sorted(rows, key=lambda r: r["streams"]):
        if broken(row["verdict"]):
            break
        if row["verdict"] == KEPT:
            found = row["streams"]
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether a device has no memory left, as onnxruntime, CUDA and cuBLAS say it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("out of memory", "failed to allocate memory", "alloc_failed", "bad_alloc")
    )
