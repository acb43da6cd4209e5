"""`--workers 2`: one port, one Triton, two front ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Client, Server, client, silence


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(repository, tmp_path / "log.txt", workers="2", max_connections="41")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not {'worker="0"', 'worker="1"'} <= set(
        re.findall(r'worker="\d"', running.get("/metrics")[1])
    ):
        time.sleep(0.1)  # the first one is ready alone
    yield running
    running.stop()


def workers(server: Server) -> dict[str, psutil.Process]:
    """By index."""
    lines: dict[psutil.Process, list[str]] = {}
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                lines[child] = child.cmdline()
    return {line[3]: c for c, line in lines.items() if "frontend.workers.worker" in line}


def worker_of(stream: Client) -> int:
    """The id of a session names it."""
    return uuid.UUID(stream.messages[0]["session_id"]).int % 64


async def served_by(server: Server, n: int) -> list[str]:
    """Which workers have streams, `n` in all, as Prometheus sees it."""
    await asyncio.sleep(0.2)
    lines = server.get("/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith("voiceforge_connections{")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in found) == n
    return sorted(line.split('worker="')[1][0] for line in found if not line.endswith(" 0.0"))


@contextlib.asynccontextmanager
async def streams(server: Server, n: int) -> AsyncIterator[list[Client]]:
    """So many open streams, and more while one worker has none: the kernel deals them out by chance."""
    async with contextlib.AsyncExitStack() as held:
        opened: list[Client] = []
        while len(opened) < n or len({worker_of(c) for c in opened}) < 2:
            assert len(opened) < 40, "one worker gets everything"
            opened.append(await held.enter_async_context(client(server.ws)))
        yield opened


async def test_both_serve_and_whoever_is_asked_tells_the_metrics_of_both(server: Server, speak):
    async with streams(server, 16) as opened:
        assert await served_by(server, len(opened)) == ["0", "1"]
        said = speak("The train to London leaves at half past three.").audio
        for c in opened:
            await c.audio(said)
        texts = {(await c.finish())["type"] and c.text() for c in opened}
        assert len(texts) == 1
        assert texts.pop()
        assert server.metric("voiceforge_finals_total") == len(opened)


async def test_a_worker_that_is_killed_takes_its_own_streams_and_is_replaced(server: Server, speak):
    async with streams(server, 12) as opened:
        assert await served_by(server, len(opened)) == ["0", "1"]
        before = workers(server)
        before["0"].kill()
        gone = 0
        for c in opened:
            try:
                await c.audio(speak("Please open the window in the kitchen.").audio)
                await c.audio(silence(1.0))
                assert (await c.finish())["reason"] == "client closed the stream"
                assert c.text()
            except (ConnectionClosed, ConnectionError):
                gone += 1
        assert 0 < gone < len(opened)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and workers(server).get("0", before["0"]).pid == before["0"].pid:
            await asyncio.sleep(0.1)
    assert "worker 0 ended with -9; another one takes its place" in server.log.read_text()
    for _ in range(8):
        async with client(server.ws) as c:
            await c.audio(speak("Good morning, Peter.").audio)
            await c.finish()
            assert c.text()


async def test_a_signal_drains_every_worker_and_nothing_stays_behind(server: Server, speak):
    family = psutil.Process(server.process.pid).children(recursive=True)
    async with streams(server, 8) as opened:
        for c in opened:
            await c.audio(speak("She sells bread at the market every Friday.").audio)
        server.process.send_signal(signal.SIGTERM)
        for c in opened:
            closed = await c.until("closed")
            assert closed["reason"] == "SHUTTING_DOWN"
            assert c.text(), "what was accepted has its final"
    assert await asyncio.to_thread(server.process.wait, 60) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


async def test_workers_end_when_their_parent_is_killed(server: Server):
    family = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(server.process.pid, signal.SIGKILL)
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 40)
    assert alive == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_worker_that_starts_while_its_parent_ends_leaves_quietly(server: Server, how: signal.Signals):
    family, old = psutil.Process(server.process.pid).children(recursive=True), workers(server)["0"]
    old.kill()
    while (new := workers(server).get("0")) in (None, old):
        await asyncio.sleep(0.02)
    assert new
    server.process.send_signal(how)
    _, alive = await asyncio.to_thread(psutil.wait_procs, [*family, new], 40)
    assert alive == []
    assert server.process.wait() == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in server.log.read_text()


def test_a_port_that_is_taken_is_said_although_it_could_be_shared(server: Server, repository: Path):
    command = [sys.executable, "-m", "frontend", "serve", "--workers", "2", "--model", "nano", "--port", str(server.port)]
    environment = os.environ | {"VOICEFORGE_MODEL_REPOSITORY": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_session_goes_on_whichever_worker_is_reached(server: Server, speak):
    """The id names the worker; with its connection broken again, over the other one, it still goes on."""
    said = np.concatenate([speak("The train to London leaves at half past three.").audio, silence(0.3)])
    async with client(server.ws) as c:
        await c.audio(said)
        expected = (await c.finish())["type"] and c.text()
    async with streams(server, 8) as opened:
        ids = [c.messages[0]["session_id"] for c in opened]
        for c in opened:
            await c.audio(said[:16_000])
            c.ws.transport.abort()
            await c.ws.wait_closed()
    for session in ids:
        for end in (24_000, len(said)):
            async with client(server.ws, session=session) as again:
                ready = again.messages[0]
                assert (ready["session_id"], ready["resumed"]) == (session, True)
                await again.audio(said[ready["held"]["samples"] : end])
                if end < len(said):
                    again.ws.transport.abort()
                    await again.ws.wait_closed()
                else:
                    closed = await again.finish()
                    await again.ws.wait_closed()
        assert again.text() == expected != ""
        assert closed["audio_s"] == pytest.approx(len(said) / 16_000, abs=0.001)
        assert (again.ws.close_code, again.ws.close_reason) == (1000, "client closed the stream")
    assert server.metric("voiceforge_resumed_total") == 2 * len(ids)
    assert server.metric("voiceforge_parked_sessions") == 0


async def test_a_session_of_a_worker_that_died_is_unknown(server: Server):
    async with streams(server, 8) as opened:
        lost = next(c.messages[0]["session_id"] for c in opened if worker_of(c) == 0)
        worker = workers(server)["0"]
        worker.kill()
        await asyncio.to_thread(psutil.wait_procs, [worker], 10)
    for _ in range(4):
        with pytest.raises(InvalidStatus) as refused:
            async with client(server.ws, session=lost):
                pass
        assert json.loads(refused.value.response.body)["error"]["code"] == "UNKNOWN_SESSION"
