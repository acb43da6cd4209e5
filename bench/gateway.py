"""What the front end itself costs: messages a CPU second through each wire, memory and connect time of many connections.

`python -m bench.gateway`. The engine is scripted and answers at once, so what is measured is the way of the audio from the
socket to the session and of the results back. The server is a process of its own; its CPU time is read, so that the
clients on the same machine do not count. Two seconds of "speech" and one of silence take turns, so that results flow.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import cProfile
import json
import os
import platform
import pstats
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from frontend.app import listening
from frontend.control.auth import Authenticator
from frontend.embedded.layout import free_ports
from frontend.inference.base import Pcm
from frontend.inference.fake import FakeEngine
from frontend.observability.metrics import Metrics
from frontend.protocols.base import Adapter
from frontend.protocols.deepgram.live import DeepgramAdapter
from frontend.protocols.native import NativeAdapter
from frontend.protocols.openai.realtime import RealtimeAdapter
from frontend.server.gateway import Gateway
from frontend.server.sessions import Services
from frontend.settings import Settings
from frontend.speech.events import RunAsr

RESULTS = Path(__file__).parent / "results"
WORDS = ["the", "old", "woman", "walked", "through", "the", "garden", "and", "the", "dog", "followed", "her", "slowly"]
RATE = 16_000
LIMIT = 2_000

ADAPTERS: list[Adapter] = [NativeAdapter(), DeepgramAdapter(), RealtimeAdapter()]


@dataclass(frozen=True)
class Wire:
    """Where a wire is, how audio goes over it, and how its stream ends. `last` is in the message after which a client hangs
    up, where it is not the server that does."""

    path: str
    end: str
    begin: str | None = None
    piece: Callable[[bytes], str | bytes] = bytes
    rate: int = RATE
    last: str | None = None


def appended(data: bytes) -> str:
    return f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(data).decode()}"}}'


WIRES = {
    "native": Wire("/ws/v1/transcribe", '{"type":"close_stream"}'),
    "deepgram": Wire(
        "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true", '{"type":"CloseStream"}'
    ),
    "openai": Wire(
        "/v1/realtime?intent=transcription", '{"type":"input_audio_buffer.commit"}',
        '{"type":"session.update","session":{"audio":{"input":{"turn_detection":null}}}}', appended, 24_000,
        "transcription.completed",
    ),
}  # fmt: skip


def script(request: RunAsr, audio: Pcm) -> str:
    """Five words every two seconds."""
    return " ".join(WORDS[i % len(WORDS)] for i in range(len(audio) * 5 // (2 * RATE)))


def audio(seconds: float, rate: int = RATE) -> bytes:
    speech, silence = np.random.default_rng(0).integers(-4_000, 4_000, 2 * rate), np.zeros(rate, np.int64)
    return np.resize(np.concatenate([speech, silence]), round(seconds * rate)).astype("<i2").tobytes()


async def serve(port: int) -> None:
    settings = Settings(port=port, max_connections=LIMIT)
    services = Services(FakeEngine(script), Metrics(), settings, "nano")
    gateway = Gateway(services, Authenticator([]), ADAPTERS)
    async with listening(settings, services, gateway, None) as running:
        await running.stopped.wait()


async def stream(url: str, wire: Wire, ms: int, seconds: float, *, paced: bool) -> None:
    """In pieces of `ms`, as they are spoken or as fast as they are taken."""
    data, step = audio(seconds, wire.rate), 2 * wire.rate * ms // 1000
    async with connect(url, compression=None, max_size=None) as ws:

        async def read() -> None:
            async for message in ws:
                if wire.last and wire.last in message:
                    return

        reader = asyncio.create_task(read())
        if wire.begin:
            await ws.send(wire.begin)
        began = time.perf_counter()
        for i in range(0, len(data), step):
            if paced:
                await asyncio.sleep(began + i / (2 * wire.rate) - time.perf_counter())
            await ws.send(wire.piece(data[i : i + step]))
        await ws.send(wire.end)
        await reader


async def speed(
    server: psutil.Process, url: str, wire: Wire, ms: int, n_streams: int, seconds: float, *, paced: bool
) -> dict[str, Any]:
    async def one(i: int) -> None:
        await asyncio.sleep(paced * i * 2 / n_streams)  # not all at once
        await stream(url, wire, ms, seconds, paced=paced)

    await stream(url, wire, ms, 10, paced=False)
    before = sum(server.cpu_times()[:2])
    await asyncio.gather(*(one(i) for i in range(n_streams)))
    cpu, total = sum(server.cpu_times()[:2]) - before, n_streams * seconds * 1000 / ms
    pace = "paced" if paced else "flood"
    return {"ms": ms, "pace": pace, "per_cpu_s": round(total / cpu), "us": round(1e6 * cpu / total, 1)}


@asynccontextmanager
async def connections(url: str, wire: Wire, n: int) -> AsyncIterator[list[ClientConnection]]:
    """`n` connections that have sent one second of audio each."""
    made: list[ClientConnection] = []
    try:
        for _ in range(n):
            ws = await connect(url, compression=None, max_queue=None)
            await ws.send(wire.piece(bytes(2 * wire.rate)))
            made.append(ws)
        yield made
    finally:
        await asyncio.gather(*(ws.close() for ws in made))


async def many(server: psutil.Process, url: str, wire: Wire, n: int) -> dict[str, Any]:
    """Resident memory each, and how long one more takes to connect."""
    async with connections(url, wire, 20):
        pass
    before = server.memory_info().rss
    async with connections(url, wire, n):
        await asyncio.sleep(1.0)
        memory = (server.memory_info().rss - before) / n / 1024
        took: list[float] = []
        for _ in range(200):
            began = time.perf_counter()
            ws = await connect(url, compression=None)
            took.append(1000 * (time.perf_counter() - began))
            await ws.close()
            await asyncio.sleep(0.005)
    took.sort()
    return {
        "connections": n, "kib_each": round(memory), "connect_ms_p50": round(took[100], 1),
        "connect_ms_p95": round(took[189], 1),
    }  # fmt: skip


async def measure(server: psutil.Process, name: str, url: str, args: argparse.Namespace) -> dict[str, Any]:
    wire = WIRES[name]
    crowd = await many(server, url, wire, args.connections)
    print(
        f"{name:>9} {crowd['connections']} connections: {crowd['kib_each']} KiB each; "
        f"one more in {crowd['connect_ms_p50']} ms (p95 {crowd['connect_ms_p95']} ms)"
    )
    speeds: list[dict[str, Any]] = []
    for ms in (20, 100):
        speeds.append(await speed(server, url, wire, ms, 20, args.seconds, paced=False))
        speeds.append(await speed(server, url, wire, ms, args.streams, 6, paced=True))
    for s in speeds:
        print(f"{name:>9} {s['ms']:>4} ms {s['pace']} {s['per_cpu_s']:>7} messages/CPU s, {s['us']} us each", flush=True)
    return {"speed": speeds, **crowd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wires", nargs="+", choices=list(WIRES), default=list(WIRES))
    parser.add_argument("--streams", type=int, default=60, help="that speak in real time")
    parser.add_argument("--seconds", type=int, default=60, help="of audio sent as fast as it is taken, by 20 streams")
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS / "gateway.json")
    parser.add_argument("--serve", type=int, metavar="PORT", help="be the server")
    parser.add_argument("--profile", type=Path, help="with --serve: write where the time goes, by function")
    args = parser.parse_args()
    if args.serve:
        profile = cProfile.Profile()
        if args.profile:
            profile.enable()
        uvloop.run(serve(args.serve))
        if args.profile:
            profile.disable()
            with args.profile.open("w") as file:
                pstats.Stats(profile, stream=file).sort_stats("tottime").print_stats(40)
        return
    rows = {wire: of_a_server(wire, args) for wire in args.wires}
    conditions = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"conditions": conditions, "wires": rows}, indent=1) + "\n")


def of_a_server(wire: str, args: argparse.Namespace) -> dict[str, Any]:
    """A fresh one for each wire: memory that was once taken is not given back."""
    port = free_ports(1)[0]
    profile = ["--profile", str(args.profile)] if args.profile else []
    server = subprocess.Popen([sys.executable, "-m", "bench.gateway", "--serve", str(port), *profile])
    try:
        _wait(port)
        url = f"ws://127.0.0.1:{port}{WIRES[wire].path}"
        return asyncio.run(measure(psutil.Process(server.pid), wire, url, args))
    finally:
        server.terminate()
        server.wait(40)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not get ready")


if __name__ == "__main__":
    main()
