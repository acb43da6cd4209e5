"""A server for all contract tests, a spoken text in the forms that clients want it, and the clients themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.conftest import RATE, ROOT, Server, silence
from tests.http_site import serving

HERE = Path(__file__).parent
V4_PYTHON = ROOT / ".cache" / "deepgram-v4" / "bin" / "python"
TRAIN, WINDOW = "The train to London leaves at half past three.", "Please open the window in the kitchen."


@pytest.fixture(scope="session")
def contract_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("contract") / "log.txt"
    running = Server(
        repository, log, api_keys="secret", allow_private_urls="true", no_data_timeout_s="3", max_upload_bytes="8000000"
    )  # fmt: skip
    yield running
    assert running.stop() == 0, log.read_text()


@dataclass(frozen=True)
class Speech:
    """`TRAIN`, a pause that ends an utterance, `WINDOW`: bare samples, a wav file, and where the file is on the web."""

    audio: Path
    wav: Path
    url: str


@pytest.fixture(scope="session")
def speech(speak: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speech]:
    folder = tmp_path_factory.mktemp("speech")
    samples = np.concatenate([speak(TRAIN).audio, silence(1.6), speak(WINDOW).audio]).astype("<i2")
    (folder / "speech.raw").write_bytes(samples.tobytes())
    soundfile.write(folder / "speech.wav", samples, RATE)
    with serving() as site:
        site.files["/speech.wav"] = (folder / "speech.wav").read_bytes()
        yield Speech(folder / "speech.raw", folder / "speech.wav", f"{site.url}/speech.wav")


def command(client: str) -> list[str]:
    """How a client's script is run; skips the test where what it needs is not installed."""
    if client == "python_v7":
        pytest.importorskip("deepgram", reason="deepgram-sdk is not installed")
        return [sys.executable]
    if client == "python_openai":
        pytest.importorskip("openai", reason="openai is not installed")
        return [sys.executable]
    if client == "python_v4":
        if not V4_PYTHON.exists():
            pytest.skip("deepgram-sdk 4 is not in .cache/deepgram-v4; tests/setup.sh installs it where PyPI is reached")
        return [str(V4_PYTHON)]
    return [node()]


def node() -> str:
    found = shutil.which("node")
    if found is None or not (HERE / "node_modules").is_dir():
        pytest.skip("Node or tests/contract/node_modules is missing; tests/setup.sh installs them where npm is reached")
    return found


@pytest.fixture
def run(contract_server: Server, speech: Speech) -> Callable[..., Any]:
    """run(client, task, key="secret"): what the client's script reports."""

    def run_one(client: str, do: str, key: str = "secret") -> Any:
        suffix = "py" if client.startswith("python") else "mjs"
        host = f"127.0.0.1:{contract_server.port}"
        task = {"do": do, "host": host, "key": key, "audio": str(speech.audio), "wav": str(speech.wav), "url": speech.url}
        script = HERE / "clients" / f"{client}.{suffix}"
        done = subprocess.run([*command(client), script, json.dumps(task)], capture_output=True, timeout=120, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_one
