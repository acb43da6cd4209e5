"""`bench.cost`: what is pure in it, and a short real run of all three curves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.cost import Growth, by_time, growth, utterance, windows
from frontend.capacity.speech import RATE, Clip
from frontend.capacity.stream import Measured
from tests.conftest import ROOT


def test_memory_is_flat_when_it_grows_by_little_after_the_warm_up():
    assert growth([50.0 + min(i, 25) for i in range(100)]).flat
    assert not growth([50.0 + i / 10 for i in range(100)]).flat
    assert growth([80.0, 90.0]).end == 90.0
    assert Growth(500.0, 508.0).flat, "a share of a large process"
    assert not Growth(50.0, 58.0).flat


def test_windows_of_a_session_meet_and_hold_everything():
    assert windows(13, 3) == [(0, 5), (4, 9), (8, 13)]
    played = Measured(
        first_partial=[1.0, 2.0, 3.0], final_lag=[1.0, 2.0, 3.0, 4.0], missed=["x"], errors=["y"], client_lag=9
    )
    parts = by_time([played, played], 2)
    assert [list(m.final_lag) for m in parts[0]] == [[1.0, 2.0]] * 2
    assert [list(m.first_partial) for m in parts[1]] == [[3.0]] * 2
    assert [(m.missed, m.errors, m.client_lag) for m in parts[0]] == [([], [], 0.0)] * 2
    assert [(m.missed, m.errors, m.client_lag) for m in parts[1]] == [(["x"], ["y"], 9)] * 2


def test_an_utterance_is_as_long_as_it_should_be():
    speech = [Clip(np.full(2 * RATE, n, np.int16), f"s{n}", RATE // 2, 3 * RATE // 2) for n in (1, 2)]
    for seconds in (0.5, 1.0, 7.3):
        clip = utterance(speech, seconds, 1)
        assert clip.speech_end - clip.speech_start == round(seconds * RATE)
        assert clip.speech_end == len(clip.audio)
        assert clip.audio[clip.speech_start] == 2, "it begins with the sentence that was asked for"


@pytest.mark.timeout(500)
def test_each_curve_is_measured_against_a_real_server(repository: Path, tmp_path: Path):
    if shutil.which("espeak-ng") is None or shutil.which("flite") is None:
        pytest.skip("espeak-ng and flite speak the sentences")
    command = [sys.executable, "-m", "bench.cost", "--out", str(tmp_path), "--streams", "1", "3", "--seconds", "6"]
    command += [
        "--minutes",
        "0.3",
        "--session-streams",
        "2",
        "--lengths",
        "1",
        "4",
        "--length-streams",
        "2",
        "--utterances",
        "1",
    ]
    environment = os.environ | {"VOICEFORGE_MODEL_REPOSITORY": str(repository)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=450)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "cost.json").read_text())
    streams, session, lengths = found["rows"].values()
    assert [r["x"] for r in streams] == [1, 3]
    assert [r["x"] for r in lengths] == [1, 4]
    assert len(session) >= 2
    for row in (*streams, *session, *lengths):
        assert row["front_cores"] > 0
        assert row["triton_cores"] > 0
        assert row["triton_mib"] > row["front_mib"] > 20
        assert row["cpu_s_per_speech_s"] > 0
        assert (row["errors"], row["refused"]) == ([], 0)
    assert streams[0]["final_lag_ms"]["p50"] is not None
    assert set(found["growth"]) == {"front end", "tritonserver", "silero_vad", "whisper_nano", "whisper_nano_encoder"}
    assert all(len(v) == len(found["memory"]["minutes"]) for v in found["memory"].values())
    assert "| process | MiB after the first quarter |" in (tmp_path / "cost.md").read_text()
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
