"""Fixtures: a real server over a real Triton, spoken sentences with true word times, recordings that may be absent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from export.nano import synth
from export.repository import IN_THE_BOX, NANO, export_silero, export_whisper
from frontend.embedded.layout import free_ports

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
RATE = 16_000
Pcm = np.ndarray
Message = dict[str, Any]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts the tests in the background says so to all
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_speech() -> Path:
    """Real recordings that are not part of the project."""
    folder = SHARED / "speech"
    if not folder.is_dir():
        pytest.skip("no recordings beside the project (../shared/speech)")
    return folder


@pytest.fixture(scope="session")
def speak() -> Callable[..., synth.Utterance]:
    """speak(text, voice="en-us", rate=1.0): an espeak-ng utterance with its true word times."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")

    def say(text: str, voice: str = "en-us", rate: float = 1.0) -> synth.Utterance:
        return synth.synthesise(text, synth.Voice("espeak", voice, rate))

    return say


def assert_same_words(words: list[dict], others: list[dict]) -> None:
    """The same words at about the same time: one or two may be timed by another partial, that which settled them."""
    assert [w["word"] for w in words] == [w["word"] for w in others]
    ours, theirs = (np.array([[w["start"], w["end"]] for w in some]) for some in (words, others))
    apart = np.abs(ours - theirs).max(axis=1)
    assert np.median(apart) <= 0.05
    assert apart.max() < 1


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * RATE), np.int16)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with nano and Silero."""
    folder = tmp_path_factory.mktemp("models")
    export_silero(folder)
    export_whisper(str(NANO), folder, name="nano", precision="int8")  # as `serve` does
    return folder


class Server:
    """`voiceforge serve` as a process of its own."""

    def __init__(
        self,
        repository: Path,
        log: Path,
        *,
        models: Sequence[str] = ("nano",),
        before: Sequence[str] = (),
        **environment: str,
    ) -> None:
        """`before`: the words of a command that is followed by that of the server and becomes it."""
        self.port = free_ports(1)[0]
        self.http = f"http://127.0.0.1:{self.port}"
        self.ws = f"ws://127.0.0.1:{self.port}/ws/v1/transcribe"
        self.log = log
        command = [*before, sys.executable, "-m", "frontend", "serve", "--port", str(self.port)]
        command += [word for model in models for word in ("--model", model)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VOICEFORGE_")} | {
            "VOICEFORGE_MODEL_REPOSITORY": str(repository),
            **{f"VOICEFORGE_{k.upper()}": v for k, v in environment.items()},
        }
        self._file = log.open("wb")
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._file, stderr=subprocess.STDOUT)
        self.wait_ready()

    def wait_ready(self, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()}")
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def get(self, path: str) -> tuple[int, str]:
        """HTTP status and body."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def date(self) -> float:
        """The server's clock, by the header of an answer; seconds since 1970."""
        with urllib.request.urlopen(f"{self.http}/healthz", timeout=10) as response:
            return parsedate_to_datetime(response.headers["date"]).timestamp()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over its labels."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def triton_pids(self) -> list[int]:
        """The tritonserver process below the front end, its stubs after it."""
        import psutil

        children = psutil.Process(self.process.pid).children(recursive=True)
        return [c.pid for c in children if c.name().startswith(("tritonserver", "triton_python"))]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._file.close()
        return code


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    running = Server(repository, tmp_path_factory.mktemp("server") / "log.txt", max_connections="60")
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="session")
def multilingual_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that serves nano-multi."""
    folder = tmp_path_factory.mktemp("models-multilingual")
    export_silero(folder)
    export_whisper(str(IN_THE_BOX["nano-multi"]), folder, name="nano-multi", precision="int8")
    log = tmp_path_factory.mktemp("server-multilingual") / "log.txt"
    running = Server(folder, log, models=("nano-multi",))
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def start_server(repository: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """start_server(api_keys="a,b", …): servers of a test's own, with VOICEFORGE_* settings."""
    running: list[Server] = []

    def start(*, before: Sequence[str] = (), **environment: str) -> Server:
        running.append(Server(repository, tmp_path / f"server-{len(running)}.txt", before=before, **environment))
        return running[-1]

    yield start
    for one in running:
        one.stop()


class Client:
    """A native-protocol client that keeps every message."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.messages: list[Message] = []

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def audio(self, samples: Pcm, *, chunk_s: float = 0.1, realtime: bool = False) -> None:
        """Sends int16 samples as binary frames."""
        step = max(1, round(chunk_s * RATE))
        for i in range(0, len(samples), step):
            await self.ws.send(samples[i : i + step].astype("<i2").tobytes())
            if realtime:
                await asyncio.sleep(chunk_s)

    async def receive(self, timeout_s: float = 20) -> Message:
        async with asyncio.timeout(timeout_s):
            message = json.loads(await self.ws.recv())
        self.messages.append(message)
        return message

    async def until(self, kind: str, timeout_s: float = 30) -> Message:
        """The next message of a type; those before it are kept too."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.receive(timeout_s)
                if message["type"] == kind:
                    return message

    async def finish(self) -> Message:
        """Closes the stream and returns `closed`."""
        await self.send(type="close_stream")
        return await self.until("closed", 60)

    def finals(self) -> list[Message]:
        return [m for m in self.messages if m["type"] == "final"]

    def text(self) -> str:
        return " ".join(m["transcript"] for m in self.finals() if m["transcript"])


@contextlib.asynccontextmanager
async def client(url: str, **query: Any) -> AsyncIterator[Client]:
    """Connects with settings in the query and reads `ready`."""
    pairs = "&".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in query.items())
    async with connect(f"{url}?{pairs}", compression=None, max_size=None) as ws:
        one = Client(ws)
        assert (await one.receive())["type"] == "ready"
        yield one
