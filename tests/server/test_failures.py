"""Things die: Triton, its stubs, the client, the server. What was accepted gets its final."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from frontend.embedded.layout import SHM, SHM_PREFIX
from tests.conftest import Client, Server, assert_same_words, client, silence

TEXT = "The old woman walked through the garden, and the dog followed her slowly."


async def _final_with_a_kill_in_the_middle(server: Server, audio: np.ndarray, victim: int) -> dict:
    half = len(audio) // 2
    async with client(server.ws) as c:
        await c.audio(audio[:half], realtime=True)
        os.kill(victim, signal.SIGKILL)
        await c.audio(audio[half:], realtime=True)
        await c.send(type="finalize")
        final = await c.until("final", 90)
        await c.finish()
    return final


@pytest.mark.parametrize("victim", ["tritonserver", "stub"])
async def test_the_final_still_comes_complete_when_the_engine_dies_in_a_sentence(start_server, speak, victim: str):
    server = start_server()
    audio = np.concatenate([speak(TEXT).audio, silence(0.2)])
    async with client(server.ws) as c:
        await c.audio(audio)
        await c.send(type="finalize")
        undisturbed = await c.until("final")
        await c.finish()
    server_pid, *stubs = server.triton_pids()
    final = await _final_with_a_kill_in_the_middle(server, audio, server_pid if victim == "tritonserver" else stubs[0])
    assert final["transcript"] == undisturbed["transcript"] != ""
    assert_same_words(final["words"], undisturbed["words"])
    server.wait_ready()
    assert server.metric("voiceforge_engine_restarts") == 1
    assert len(server.triton_pids()) == 4
    assert server.stop() == 0


async def test_readiness_follows_the_engine(start_server):
    server = start_server()
    os.kill(server.triton_pids()[0], signal.SIGKILL)
    seen = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and seen != {503, 200}:
        status = server.get("/readyz")[0]
        if status == 503 or 503 in seen:
            seen.add(status)
        await asyncio.sleep(0.1)
    assert seen == {503, 200}
    assert server.get("/healthz") == (200, "ok\n")


async def test_sigterm_lets_running_speech_finish_and_refuses_newcomers(start_server, speak):
    server = start_server()
    triton = server.triton_pids()
    audio = speak(TEXT).audio
    async with client(server.ws) as c:
        await c.audio(audio, realtime=True)
        server.process.send_signal(signal.SIGTERM)
        closed = await c.until("closed")
        kinds = [m["type"] for m in c.messages]
        assert kinds[-3:] == ["final", "error", "closed"]
        assert c.messages[-2]["error"]["code"] == closed["reason"] == "SHUTTING_DOWN"
        assert abs(closed["audio_s"] - len(audio) / 16000) < 0.01
        await c.ws.wait_closed()
        assert c.ws.close_code == 1012
    with pytest.raises((OSError, InvalidStatus)):
        await connect(server.ws)
    assert server.process.wait(40) == 0
    assert not any(psutil.pid_exists(pid) for pid in triton)


async def test_triton_goes_with_a_front_end_that_is_killed(start_server):
    server = start_server()
    pids = server.triton_pids()
    assert len(pids) == 4
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(psutil.pid_exists(p) for p in pids):
        await asyncio.sleep(0.1)
    assert not any(psutil.pid_exists(p) for p in pids)
    left = list(SHM.glob(f"{SHM_PREFIX}{server.process.pid}_*"))
    again = start_server()
    assert not any(p.exists() for p in left), "the next start cleans what the killed one left"
    assert again.stop() == 0
    assert not list(SHM.glob(f"{SHM_PREFIX}{again.process.pid}_*"))


def _held(server: Server) -> dict[str, float]:
    process = psutil.Process(server.process.pid)
    return {"fds": process.num_fds(), "threads": process.num_threads(), "rss": process.memory_info().rss / 2**20}


def _sequences(server: Server) -> float:
    """Streams whose state Triton holds, by its own metrics."""
    total = 0.0
    for connection in psutil.Process(server.triton_pids()[0]).net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN:
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{connection.laddr.port}/metrics", timeout=2).read().decode()
            except (OSError, ValueError, http.client.HTTPException):  # the gRPC port is among them
                continue
            for line in text.splitlines():
                if line.startswith(("voiceforge_sequences{", "voiceforge_onnx_sequences{")):
                    total += float(line.rsplit(" ", 1)[1])
    return total


async def _undisturbed(server: Server, audio: np.ndarray) -> Client:
    async with client(server.ws) as c:
        await c.audio(audio)
        await c.finish()
    return c


async def test_speech_waits_until_shared_memory_has_room_again(start_server, speak):
    """The stubs cannot take a sentence while /dev/shm is full; in a mount namespace, so that only this server sees it."""
    own = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root for a /dev/shm of its own")
    server = start_server(before=own, admit_lag_s="600")
    memory = Path(f"/proc/{server.process.pid}/root/dev/shm")
    filler = memory / "filler"
    room = os.statvfs(memory)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
    audio = np.concatenate([speak(TEXT).audio] * 2)

    async def said() -> str:
        async with client(server.ws) as c:
            await c.audio(audio)
            await c.send(type="finalize")
            await c.until("final", 60)
            await c.finish()
        return c.text()

    streams = [asyncio.create_task(said()) for _ in range(12)]  # more at once than the canary had room for
    await asyncio.sleep(6)
    assert "No space left on device" in server.log.read_text()
    filler.unlink()
    texts = set(await asyncio.gather(*streams))
    assert texts == {(await _undisturbed(server, audio)).text()} != {""}
    assert server.metric("voiceforge_engine_restarts") == 0


async def test_a_log_that_nobody_reads_stops_no_stream(start_server, speak, tmp_path: Path):
    """A full disk of a collector, a slow terminal: what reads the lines is stuck."""
    log = tmp_path / "server-0.txt"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        server = start_server(before=["sh", "-c", 'exec "$@" --verbose', "sh"])
        writer = os.open(log, os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.close(writer)
        audio = speak(TEXT).audio
        for _ in range(2):
            assert (await _undisturbed(server, audio)).text()
    finally:
        os.close(reader)


LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(LIBFAKETIME is None, reason="faketime is not installed")
async def test_a_clock_that_jumps_is_not_noticed(start_server, speak, tmp_path: Path):
    """An hour ahead and two back, as when a machine gets its time from the network: no time-out, no other word or time."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    settings = [f"LD_PRELOAD={LIBFAKETIME}", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1"]
    server = start_server(before=["env", *settings, "FAKETIME_DONT_FAKE_MONOTONIC=1"], idle_timeout_s="20")
    audio = np.concatenate([speak(TEXT).audio, silence(0.2)])
    expected = await _undisturbed(server, audio)
    dates: list[float] = []
    thirds = np.array_split(audio, 3)
    async with client(server.ws) as c:
        for piece, jump in zip(thirds, ("+3600", "-3600", "+0"), strict=True):
            await c.audio(piece, realtime=True)
            clock.write_text(f"{jump}\n")
            await asyncio.sleep(1.1)  # the header of the date is made anew each second
            dates.append(server.date() - time.time())
        await c.finish()
    assert dates == pytest.approx([3600, -3600, 0], abs=60)
    assert not [m for m in c.messages if m["type"] == "error"]
    assert c.text() == expected.text() != ""
    assert_same_words(c.finals()[0]["words"], expected.finals()[0]["words"])
    assert server.metric("voiceforge_engine_restarts") == 0


async def test_two_hundred_connects_and_drops_leave_nothing_behind(start_server, speak):
    server = start_server(resume_s="1")
    audio = speak("Please open the window.").audio.tobytes()

    async def drop(stage: int) -> None:
        ws = await connect(server.ws, compression=None)
        if stage:
            await ws.recv()
            await ws.send(audio[: 16_000 * stage])
            await asyncio.sleep(0.05 * stage)
        if stage == 2:
            await ws.close()
        else:
            ws.transport.abort()
            await ws.wait_closed()

    for i in range(20):
        await drop(i % 4)
    await asyncio.sleep(1)
    before = _held(server)
    for i in range(200):
        await drop(i % 4)
    for _ in range(100):
        if (
            server.metric("voiceforge_connections") == server.metric("voiceforge_parked_sessions") == 0
            and _held(server)["fds"] <= before["fds"] + 3
        ):
            break
        await asyncio.sleep(0.1)
    after = _held(server)
    assert server.metric("voiceforge_connections") == server.metric("voiceforge_parked_sessions") == 0
    assert server.metric("voiceforge_backlog_seconds") == pytest.approx(0, abs=1e-6)
    assert server.metric("voiceforge_finals_waiting") == 0
    assert after["fds"] <= before["fds"] + 3
    assert after["threads"] <= before["threads"] + 2
    assert after["rss"] - before["rss"] < 15
    async with client(server.ws) as c:  # the gauges are set by requests
        await c.audio(np.frombuffer(audio, np.int16))
        await c.finish()
    assert _sequences(server) <= 2


async def test_a_client_that_never_reads_is_closed_and_costs_little(start_server, speak):
    server = start_server(slow_client_s="2", max_outbox="20")
    process = psutil.Process(server.process.pid)
    # results too small to fill a socket's buffers: errors about long settings are not
    async with connect(server.ws, compression=None, max_queue=1) as ws:
        before = process.memory_info().rss
        message = json.dumps({"type": "configure", "config": {f"{'x' * 60}{i}": 1 for i in range(300)}})
        with pytest.raises((OSError, Exception)):
            for _ in range(100_000):
                await ws.send(message)
        assert process.memory_info().rss - before < 40 * 2**20
    for _ in range(100):
        if server.metric("voiceforge_connections") == 0:
            break
        await asyncio.sleep(0.1)
    assert server.metric("voiceforge_connections") == 0
    assert 'reason="slow_client"' in server.get("/metrics")[1]
