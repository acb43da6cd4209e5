"""Window policies: what a sweep measures and recommends, and that exporter and engine do as it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.context_sweep import Measured, Policy, plot, policies, recommended, sweep, write
from export.checkpoint import open_checkpoint
from export.engine.windows import window_length
from export.repository import NANO, export_whisper, up_to_date

RATE = 16_000


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return shutil.copytree(NANO, tmp_path / "whisper-mine")


def row(name: str, wer: float, cpu_s: float) -> Measured:
    return Measured(Policy(name, (30.0,)), wer, cpu_s, 30.0)


def test_the_cheapest_that_is_as_good_as_the_whole_window_is_recommended():
    found = [row("30 s", 10.0, 1.0), row("5 s", 10.15, 0.2), row("audio", 12.0, 0.1), row("15 s", 9.0, 0.5)]
    assert recommended(found).policy.name == "5 s"
    assert recommended(found, tolerance=0.1).policy.name == "15 s"
    assert recommended(found, tolerance=5).policy.name == "audio"
    assert recommended(found[:1]).policy.name == "30 s"


def test_the_whole_window_is_swept_first_and_what_is_declared_too(checkpoint: Path):
    names = [p.name for p in policies(open_checkpoint(str(checkpoint)))]
    assert names[0] == "30 s"
    assert {"5 s", "10 s", "15 s", "audio + 0 s", "audio + 3 s", "declared"} <= set(names)
    (checkpoint / "voiceforge.json").unlink()
    assert "declared" not in [p.name for p in policies(open_checkpoint(str(checkpoint)))]


@given(
    st.integers(0, 40 * RATE), st.lists(st.integers(1, 30 * RATE), min_size=1, max_size=8).map(sorted), st.integers(0, RATE)
)
def test_a_window_holds_audio_and_padding_or_is_the_last(n: int, buckets: list[int], padding: int):
    found = window_length(n, buckets, padding)
    assert found in buckets
    assert found >= n + padding or found == buckets[-1]
    assert all(b < n + padding for b in buckets if b < found)


def test_a_sweep_measures_and_what_it_writes_is_exported(checkpoint: Path, speak, tmp_path: Path):
    export_whisper(str(checkpoint), tmp_path / "models")
    texts = ["Please open the window.", "It is raining in Dublin today."]
    files = open_checkpoint(str(checkpoint))
    found = sweep(files, [speak(t).audio for t in texts], texts)
    by_name = {m.policy.name: m for m in found}
    assert by_name["30 s"].window_s == 30
    assert by_name["audio + 0 s"].window_s < 4 < by_name["audio + 3 s"].window_s
    assert by_name["30 s"].cpu_s > by_name["audio + 0 s"].cpu_s > 0
    write(files, by_name["audio + 2 s"], found, "two sentences")
    written = json.loads((checkpoint / "voiceforge.json").read_text())
    assert written["context"] is False, "the rest of the file stays"
    assert set(written["window_sweep"]["wer"]) == set(by_name)
    assert not up_to_date(tmp_path / "models", "mine", folder=checkpoint)
    export_whisper(str(checkpoint), tmp_path / "models")
    config = (tmp_path / "models" / "whisper_mine" / "config.pbtxt").read_text()
    assert '"windows_s" value: { string_value: "1,2,3,4,5,6,8,10,12,15,20,25,30" }' in config
    assert '"padding_s" value: { string_value: "2" }' in config
    plot(found, by_name["audio + 2 s"], "two sentences", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
