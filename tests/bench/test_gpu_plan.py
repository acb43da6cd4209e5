"""What is chosen and judged by the figures of a GPU run, and what survives of one that was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.gpu import plots, report
from bench.gpu.plan import (
    DRY,
    choose_cuda_graphs,
    choose_encoder_batch,
    choose_tuning,
    out_of_memory,
    streams_at_slo,
    verdict,
)
from bench.gpu.results import Deadline, Results


def served(streams: int = 100, p95: float = 120.0, **more: Any) -> dict[str, Any]:
    ms = {"p50": p95 / 2, "p95": p95, "p99": p95}
    row = {
        "streams": streams, "refused": 0, "errors": [], "utterances": 400, "client_lag_ms": 9.0, "wer": 17.0,
        "calm_wer": 16.8,
        "final_lag_without_hang_ms": ms, "first_partial_ms": ms, "connect_ms": ms, "partial_interval_ms": ms,
        "early_endpoints": 0, "cpu": {"front end": 1.0, "triton": 2.0}, "gpu": None,
    }  # fmt: skip
    row |= more
    return row | {"verdict": verdict(row, judged_by_text=True)}


def batch(ms: float, windows: float) -> dict[str, float]:
    return {"batch_ms": ms, "windows_per_s": windows}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            {1: batch(2, 500), 8: batch(9, 880), 16: batch(17, 940), 32: batch(34, 960)},
            8,
        ),  # the rest is not worth waiting for
        ({1: batch(2, 500), 8: batch(9, 700), 16: batch(17, 940), 32: batch(34, 960)}, 16),
        ({1: batch(30, 33), 8: batch(90, 88), 16: batch(180, 90)}, 1),  # too slow to hold decoding rows up for
        ({1: batch(2, 500), 8: {"failed": "out of memory"}}, 1),
        ({1: {"failed": "out of memory"}}, 1),
        ({1: batch(60, 16)}, 1),
    ],
)
def test_the_encoder_batch_is_the_smallest_that_is_nearly_as_good_as_any(rows: dict[int, Any], expected: int):
    assert choose_encoder_batch(rows) == expected


@pytest.mark.parametrize(
    ("plain", "replayed", "expected"),
    [
        ({"step_ms": 3.0}, {"step_ms": 1.0, "same_text": True}, True),
        ({"step_ms": 3.0}, {"step_ms": 2.9, "same_text": True}, False),
        ({"step_ms": 3.0}, {"step_ms": 1.0, "same_text": False}, False),
        ({"step_ms": 3.0}, {"failed": "a node is not on CUDA"}, False),
        ({"failed": "out of memory"}, {"step_ms": 1.0, "same_text": True}, False),
        ({"step_ms": 3.0}, {}, False),
    ],
)
def test_cuda_graphs_are_taken_where_they_pay_and_say_the_same(plain: Any, replayed: Any, expected: bool):
    assert choose_cuda_graphs({False: plain, True: replayed}) is expected


def test_the_tuning_is_the_quickest_and_of_those_alike_the_one_with_the_fewest_processes():
    rows = {
        (1, 64): served(p95=300),
        (2, 32): served(p95=104),
        (4, 32): served(p95=100),
        (6, 16): served(p95=50, errors=["x"]),
    }
    assert choose_tuning(rows) == (2, 32)
    assert choose_tuning(rows | {(4, 32): served(p95=80)}) == (4, 32)
    with pytest.raises(ValueError, match="no tuning could be served"):
        choose_tuning({(1, 64): {"failed": "ServerFailed"}, (2, 32): served(utterances=0)})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, "kept"),
        ({"p95": 499.9}, "kept"),
        ({"p95": 500.0}, "final lag"),
        ({"wer": 17.4}, "text"),
        ({"wer": 17.2}, "kept"),
        ({"errors": ["no final"], "refused": 2}, "errors, refused"),
        ({"utterances": 0}, "no finals"),
        ({"client_lag_ms": 130.0, "p95": 900.0}, "void: the load generator was late"),
    ],
)
def test_the_promise_is_the_one_of_the_documents(row: dict[str, Any], expected: str):
    assert served(**row)["verdict"] == expected


def test_made_up_texts_are_not_judged():
    assert verdict(served(wer=99.0), judged_by_text=False) == "kept"


def test_streams_at_slo_is_the_last_number_before_the_first_that_broke_it():
    rows = [served(n) for n in (50, 100, 200)]
    assert streams_at_slo(rows) == 200
    assert streams_at_slo([*rows, served(300, p95=800), served(400)]) == 200
    assert streams_at_slo([*rows, served(300, client_lag_ms=500.0), served(400)]) == 400  # what is void tells nothing
    assert streams_at_slo([served(50, p95=900)]) == 0
    assert streams_at_slo([]) == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("Failed to allocate memory for requested buffer of size 2147483648"), True),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("no kernel image is available for execution on the device"), False),
    ],
)
def test_memory_that_runs_out_is_told_from_other_failures(error: Exception, expected: bool):
    assert out_of_memory(error) is expected


# --- results ------------------------------------------------------------------------------------------------------


def test_a_killed_run_keeps_its_rows_and_the_next_goes_on(tmp_path: Path):
    path = tmp_path / "deep" / "gpu.json"
    first = Results(path)
    first.conditions(gpu="H100")
    first.record("engine", "a, 1", {"x": 1})
    (path.with_suffix(".part")).write_text('{"half a')  # killed while it wrote
    again = Results(path)
    again.conditions(gpu="H100")
    assert again.has("engine", "a, 1")
    assert not again.has("engine", "a, 2")
    again.record("engine", "a, 2", {"x": 2})
    again.record("engine", "a, 1", {"x": 3})
    assert Results(path).part("engine") == {"a, 1": {"x": 3}, "a, 2": {"x": 2}}


def test_a_row_is_forgotten(tmp_path: Path):
    results = Results(tmp_path / "gpu.json")
    results.record("streams", "failed", {"failed": "x"})
    results.forget("streams", "failed")
    results.forget("streams", "never was")
    assert Results(results.path).part("streams") == {}


def test_rows_of_two_machines_are_not_mixed(tmp_path: Path):
    first = Results(tmp_path / "gpu.json")
    first.conditions(gpu="H100")
    first.conditions(gpu="H200")  # nothing was measured yet
    first.record("engine", "a, 1", {})
    with pytest.raises(ValueError, match="was measured with gpu 'H200'"):
        Results(tmp_path / "gpu.json").conditions(gpu="H100")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"conditions": {}}', "null", '{"half'])
def test_a_file_that_holds_something_else_is_not_overwritten(tmp_path: Path, content: str):
    (tmp_path / "gpu.json").write_text(content)
    with pytest.raises(ValueError, match="holds no results"):
        Results(tmp_path / "gpu.json")
    assert (tmp_path / "gpu.json").read_text() == content


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers())))
def test_what_was_recorded_last_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]):
    path = tmp_path_factory.mktemp("results") / "gpu.json"
    expected: dict[str, dict[str, Any]] = {}
    for part, key, value in rows:
        Results(path).record(part, key, {"value": value})
        expected.setdefault(part, {})[key] = {"value": value}
    assert Results(path).content["parts"] == expected


def test_a_deadline_has_what_is_left():
    assert Deadline(60).has(50)
    assert not Deadline(60).has(61)
    assert not Deadline(0).has(1)


def test_results_are_told_and_drawn(tmp_path: Path):
    results = Results(tmp_path / "gpu.json")
    assert plots.draw(results) == []
    results.conditions(gpu="H100")
    results.record("engine", "base-fp16, 30 s windows, 1", {"audio_s_per_wall_s": 100.0})
    results.record("engine", "base-fp16, 30 s windows, 8", {"failed": "out of memory"})
    for row in (served(50), served(100, gpu={"gpu_percent": 40.0, "gpu_memory_mib": 1.0, "gpu_watts": 1.0})):
        results.record("streams base", str(row["streams"]), row)
    results.record("streams base", "failed", {"failed": "ServerFailed"})
    assert sorted(p.name for p in plots.draw(results)) == ["engine.png", "streams.png"]
    told = "\n".join(report.lines(results))
    assert "streams at SLO: 100" in told
    assert "out of memory" in told
    json.dumps(results.content)


def test_the_dry_plan_is_small():
    assert max(DRY.streams) <= 5
    assert max(DRY.batches) <= 4
