"""`bench.streams` from the command line: our server and the plain loop, each with one stream and a real model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.timeout(600)
def test_ours_and_the_loop_with_one_stream(tmp_path: Path):
    pytest.importorskip("transformers", reason="CTranslate2's converter needs it")
    if shutil.which("espeak-ng") is None or shutil.which("flite") is None:
        pytest.skip("espeak-ng and flite speak the sentences")
    command = [sys.executable, "-m", "bench.streams", "--servers", "ours,loop", "--streams", "1", "--every-step"]
    command += ["--seconds", "1", "--gap", "2", "--nice", "0", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "streams.json").read_text())
    assert [(r["server"], r["streams"], r["errors"]) for r in found["rows"]] == [("ours", 1, []), ("loop", 1, [])]
    for row in found["rows"]:
        assert row["sentences"] == 3
        assert row["words"] > 0
        assert row["wer"] < 100
        assert row["missed"] < 3
        assert row["final_lag_ms"]["p50"] is not None
        assert row["committed_lag_ms"]["p95"] >= row["final_lag_ms"]["p50"]
        assert row["cpu_s_per_audio_s"] > 0
        assert row["peak_mib"] > 50
    table = (tmp_path / "streams.md").read_text()
    assert "| ours | 1 |" in table
    assert "| loop | 1 |" in table
    assert (tmp_path / "streams.png").read_bytes().startswith(b"\x89PNG")
