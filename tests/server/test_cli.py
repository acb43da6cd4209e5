"""The command line as a person uses it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, Server, silence


def voiceforge(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "frontend", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=150,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recording(speak, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "talk.wav"
    parts = [speak("The red bottle was under the table.").audio, silence(1.2), speak("It is raining in Dublin today.").audio]
    soundfile.write(path, np.concatenate(parts), 16000)
    return path


def test_a_file_becomes_a_line_of_text_an_utterance(server: Server, recording: Path):
    done = voiceforge("transcribe", str(recording), "--server", server.http)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(re.match(r"[A-Z]", line) for line in lines)


def test_subtitles_and_json_have_times_in_order(server: Server, recording: Path, tmp_path: Path):
    for form in ("srt", "vtt", "json"):
        done = voiceforge("transcribe", str(recording), "--server", server.http, "-f", form, "-o", str(tmp_path))
        assert done.returncode == 0, done.stderr
    srt = (tmp_path / "talk.srt").read_text()
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n\S", srt)
    assert (tmp_path / "talk.vtt").read_text().startswith("WEBVTT\n\n00:00:0")
    content = json.loads((tmp_path / "talk.json").read_text())
    assert content["segments"][1]["start"] > content["segments"][0]["start"]
    assert content["text"].count(" ") > 5


def test_a_triton_that_is_not_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    done = voiceforge("serve", "--triton", f"127.0.0.1:{port}", "--port", "0")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_starts_a_server_of_its_own_when_none_is_named(recording: Path, repository: Path):
    done = voiceforge("transcribe", str(recording), "--model", "nano", VOICEFORGE_MODEL_REPOSITORY=str(repository))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_what_can_not_be_done_is_one_line_and_does_not_stop_the_rest(server: Server, recording: Path, tmp_path: Path):
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(b"not audio at all" * 100)
    done = voiceforge("transcribe", "missing.wav", str(empty), str(noise), str(recording), "--server", server.http)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_file_of_the_collection_is_read_or_refused_in_a_line(server: Server, shared_speech: Path):
    files = [str(p) for p in sorted((shared_speech / "formats").rglob("*.*")) if p.suffix not in {".raw", ".alaw", ".ulaw"}]
    done = voiceforge("transcribe", *files, "--server", server.http, "-f", "json")
    assert "Traceback" not in done.stderr
    refused = {line.split(":")[0].rsplit("/", 1)[-1] for line in done.stderr.replace("\n", " ").split("/formats/")[1:]}
    assert "whatstheweatherlike.wav" not in refused
    assert done.returncode == 1, "the hostile ones cannot all be read"


def test_a_server_that_is_not_there_and_a_wrong_format_are_said(recording: Path):
    done = voiceforge("transcribe", str(recording), "--server", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = voiceforge("transcribe", str(recording), "-f", "docx")
    assert done.returncode == 1
    assert "txt, json, srt, vtt" in done.stderr


def test_the_model_list_names_what_is_there(repository: Path):
    done = voiceforge("models", "list", "--model-repository", str(repository))
    assert done.returncode == 0
    assert "nano" in done.stdout
    assert "silero_vad" in done.stdout
    assert "changed" not in done.stdout


def test_the_doctor_is_content_here_and_says_why_when_not():
    done = voiceforge("doctor", "--json", VOICEFORGE_PORT="0")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, findings
    assert {"numpy", "embedded Triton", "libpython", "/dev/shm", "port"} <= {f["name"] for f in findings}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = voiceforge("doctor", VOICEFORGE_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "choose another" in done.stdout


def test_a_port_that_is_taken_is_said(repository: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = voiceforge("serve", "--model", "nano", "--port", port, VOICEFORGE_MODEL_REPOSITORY=str(repository))
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_none_is_said(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    done = voiceforge("serve", "--model", str(tmp_path), VOICEFORGE_MODEL_REPOSITORY=str(tmp_path / "models"))
    assert done.returncode == 1
    assert "tokenizer.json missing" in " ".join(done.stderr.split())
