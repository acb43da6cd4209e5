"""OpenAI's own Realtime clients against the real server, with nothing changed but host and key.

The JavaScript clients speak TLS only, so a terminator stands before the server, as a proxy does in operation.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from playwright.async_api import Route, async_playwright

from tests.conftest import RATE, Server, silence
from tests.contract.conftest import HERE, TRAIN, WINDOW, node
from tests.unit.realtime_schema import validate

Run = Callable[..., Any]
TRANSCRIPTION = "conversation.item.input_audio_transcription"
CLIENTS = ["python", "javascript"]


@pytest.fixture(scope="module")
def audio(speak: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two utterances, with the silence that ends the second, as 24 kHz samples."""
    samples = np.concatenate([speak(TRAIN).audio, silence(1.6), speak(WINDOW).audio, silence(1.0)])
    path = tmp_path_factory.mktemp("realtime") / "speech.raw"
    at_24_khz = np.clip(soxr.resample(samples.astype(np.float32), RATE, 24_000), -32768, 32767)
    path.write_bytes(at_24_khz.astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For localhost, signed by itself: certificate and key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate that JavaScript clients need")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-keyout", str(key), "-out", str(made), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@contextlib.contextmanager
def terminating(server: Server, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Host and port where TLS is taken off before the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    started, port, stop = threading.Event(), 0, asyncio.Event()
    loop = asyncio.new_event_loop()
    running: set[asyncio.Task[None]] = set()
    transports: set[asyncio.WriteTransport] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", server.port)
        transports.update((writer.transport, to_writer.transport))
        await asyncio.gather(pipe(reader, to_writer), pipe(to_reader, writer))
        running.discard(task)

    async def terminate() -> None:
        nonlocal port
        async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as listener:
            port = listener.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
            for transport in transports:
                transport.abort()  # the pipes end by themselves: a handler that is cancelled is an error to asyncio
            await asyncio.gather(*running)

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(terminate())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert started.wait(10)
        yield f"localhost:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def run(server: Server, audio: Path, client: str, do: str, key: str, certificate: tuple[Path, Path]) -> Any:
    """What the client's script reports."""
    if client == "python":
        pytest.importorskip("openai", reason="openai is not installed")
        command, script, environment = [sys.executable], "realtime_python.py", {}
        where: Any = contextlib.nullcontext(f"127.0.0.1:{server.port}")
    else:
        command, script, environment = [node()], "realtime_javascript.mjs", {"NODE_EXTRA_CA_CERTS": str(certificate[0])}
        where = terminating(server, certificate)
    with where as host:
        task = json.dumps({"do": do, "host": host, "key": key, "audio": str(audio)})
        command += [str(HERE / "clients" / script), task]
        done = subprocess.run(command, capture_output=True, timeout=150, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def realtime(contract_server: Server, audio: Path, certificate: tuple[Path, Path]) -> Run:
    """realtime(client, task, key="secret")"""
    return lambda client, do, key="secret": run(contract_server, audio, client, do, key, certificate)


def check(events: list[dict[str, Any]], expected: list[str]) -> None:
    """Deltas come while one speaks and are the transcripts; items are committed one after the other."""
    for event in events:
        validate(event)
    assert not [event for event in events if event["type"] == "error"]
    deltas: dict[str, str] = {}
    for event in events:
        if event["type"] == f"{TRANSCRIPTION}.delta":
            deltas[event["item_id"]] = deltas.get(event["item_id"], "") + event["delta"]
    completed = {e["item_id"]: e["transcript"] for e in events if e["type"] == f"{TRANSCRIPTION}.completed"}
    committed = [e["item_id"] for e in events if e["type"] == "input_audio_buffer.committed"]
    assert list(completed.values()) == expected
    assert {item: deltas[item] for item in completed} == completed
    assert committed == list(completed)


def check_turns(events: list[dict[str, Any]], names: set[str]) -> None:
    check(events, [TRAIN, WINDOW])
    kinds = [event["type"] for event in events]
    assert kinds.index(f"{TRANSCRIPTION}.delta") < kinds.index("input_audio_buffer.speech_stopped")
    assert names <= set(kinds)


GA = {"session.created", "session.updated", "conversation.item.added", "conversation.item.done"}


@pytest.mark.parametrize(("client", "do"), [("python", "live"), ("python", "live_async"), ("javascript", "live")])
def test_a_stream(realtime: Run, client: str, do: str):
    told = realtime(client, do)
    check_turns(told["events"], GA)
    assert not told.get("errors")


@pytest.mark.parametrize("client", CLIENTS)
def test_the_beta(realtime: Run, client: str):
    events = realtime(client, "beta")["events"]
    check_turns(events, {"transcription_session.updated", "conversation.item.created"})
    assert events[0]["type"] == ("transcription_session.created" if client == "python" else "session.created")


@pytest.mark.parametrize("client", CLIENTS)
def test_manual_commits(realtime: Run, client: str):
    told = realtime(client, "manual")
    events = [event for event in told["events"] if event["type"] != "error"]
    check(events, [f"{TRAIN} {WINDOW}"])
    kinds = [event["type"] for event in events]
    assert kinds.index("input_audio_buffer.cleared") < kinds.index("input_audio_buffer.committed")
    assert "input_audio_buffer.speech_started" not in kinds
    assert [(error["code"], error["event_id"]) for error in told["errors"]] == [
        ("input_audio_buffer_commit_empty", "empty"), ("unsupported_event", "answer"),
    ]  # fmt: skip


def test_a_wrong_key_python(realtime: Run):
    told = realtime("python", "wrong_key", key="wrong")
    assert (told["status"], told["error"]["code"]) == (401, "invalid_api_key")


def test_a_wrong_key_javascript(realtime: Run):
    told = realtime("javascript", "wrong_key", key="wrong")
    assert any("401" in error for error in told["errors"])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_connects_again_when_its_session_is_over(
    start_server: Callable[..., Server], audio: Path, certificate: tuple[Path, Path], client: str
):
    server = start_server(api_keys="secret", max_session_s="8")
    told = run(server, audio, client, "reconnect", "secret", certificate)
    assert (told.get("codes") or told["closes"])[0] == 1001
    check([event for event in told["events"] if event["type"] != "error"], [TRAIN, WINDOW])


@pytest.mark.parametrize("beta", [False, True])
async def test_javascript_in_a_browser(contract_server: Server, audio: Path, certificate: tuple[Path, Path], beta: bool):
    node()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")

    async def from_disk(route: Route) -> None:
        path = HERE / "node_modules" / route.request.url.partition(f"{contract_server.http}/")[2]
        await route.fulfill(path=path, content_type="text/javascript")

    with terminating(contract_server, certificate) as host:
        task = {"host": host, "key": "secret", "audio": base64.b64encode(audio.read_bytes()).decode(), "beta": beta}
        async with async_playwright() as playwright:
            arguments = ["--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]
            browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
            page = await browser.new_page(ignore_https_errors=True)
            await page.route("**/openai/**", from_disk)
            await page.goto(contract_server.http)
            told = await page.evaluate((HERE / "clients" / "realtime_browser.js").read_text(), task)
            await browser.close()
    assert told["errors"] == []
    assert told["protocol"] == "realtime"
    check(told["events"], [TRAIN, WINDOW])
