"""locust runs as the README says, on both wires, and its exit code says what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from loadtest.wires import Deepgram, Heard, Native
from tests.conftest import ROOT, Server

SENTENCES = ["The train to London leaves at half past three.", "Please open the window in the kitchen."]


def save(path: Path, audio: np.ndarray, rate: int = 16_000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(audio.astype("<i2").tobytes())


@pytest.fixture(scope="module")
def folder(speak, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio")
    rows: list[str] = []
    for i, text in enumerate(SENTENCES):
        save(path / f"{i}.wav", speak(text).audio)
        rows.append(f"{i}.wav\t{text}")
    (path / "transcripts.tsv").write_text("\n".join(rows))
    return path


def locust(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ, check=False)


def test_both_wires_are_measured_with_word_errors_and_without_failures(server: Server, folder: Path, tmp_path: Path):
    common = ["--audio", str(folder), "--host", f"ws://127.0.0.1:{server.port}", "--slo-ms", "60000"]
    done = locust(*common, "-u", "4", "-r", "4", "-t", "14s", "--stop-timeout", "30", "--csv", str(tmp_path / "run"))
    assert "word error rate" in done.stdout, done.stderr
    rows = {tuple(line.split(",")[:2]): line.split(",") for line in (tmp_path / "run_stats.csv").read_text().splitlines()}
    for wire in ("native", "deepgram"):
        for name in ("connect", "first partial", "final lag", "client lag"):
            count, failures = (int(rows[wire, name][i]) for i in (2, 3))
            assert count > 0, (wire, name)
            assert failures == 0 or (name == "final lag" and failures < count), (wire, name)  # late, where a machine is busy
    assert done.returncode in (0, 2), "0, or 2 where this machine was too busy to pace the audio"


def test_a_server_that_is_not_there_is_a_failure(folder: Path):
    done = locust("--audio", str(folder), "--host", "ws://127.0.0.1:9", "-u", "1", "-r", "1", "-t", "12s", "NativeUser")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout


def test_wires_read_results_and_errors_and_nothing_else():
    native = {"type": "final", "transcript": "yes", "start": 1.5, "duration": 0.5}
    assert Native().parse(json.dumps(native)) == Heard("final", "yes", 1.5, 2.0)
    assert Native().parse('{"type":"ready"}') is None
    assert Native().parse('{"type":"error","error":{"code":"NO_DATA"}}') == Heard("error", "NO_DATA")
    results = {
        "type": "Results",
        "is_final": False,
        "start": 1,
        "duration": 2,
        "channel": {"alternatives": [{"transcript": "y"}]},
    }
    assert Deepgram().parse(json.dumps(results)) == Heard("partial", "y", 1.0, 3.0)
    assert Deepgram().parse('{"type":"Metadata"}') is None
