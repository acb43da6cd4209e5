"""Twenty seconds of coverage-guided fuzzing find nothing but our own errors; `target.py` searches for longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SECONDS = 20
SEEDS = [
    {"type": "configure", "config": {"language": "en"}},
    {"type": "Configure", "features": {"numerals": True}},
    {"type": "session.update", "session": {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}},
    {"type": "transcription_session.update", "session": {"input_audio_format": "g711_ulaw", "turn_detection": None}},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "Finalize", "channel": 0},
]


def test_what_clients_send_is_understood_or_refused(tmp_path: Path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(SEEDS):
        (corpus / str(i)).write_bytes(json.dumps(seed).encode())
    # libFuzzer's limit of memory is off: it reads the peak, which a process inherits from the one that started it.
    limits = [f"-max_total_time={SECONDS}", "-max_len=4096", "-rss_limit_mb=0"]
    command = [sys.executable, "-m", "tests.fuzz.target", *limits, str(corpus)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    assert "Done" in done.stderr, "it ran to the end"
