"""One paced stream to any of the servers: 100 ms of audio each 100 ms, every answer kept with its time of arrival."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bench.streams.lags import Seen
from bench.streams.wires import Pcm, Refused, ServerError, Wire

RATE = 16_000
CHUNK = RATE // 10
READY_S = 60.0
QUIET_S, DRAIN_S = 5.0, 15.0
"""After the last audio: how long nothing may come before a server that does not drain is taken for done, and how long
any server may take. WhisperLive's own client waits 15 s."""


@dataclass
class Played:
    frames: list[tuple[float, str | bytes]] = field(default_factory=list)
    start: float = 0.0
    """When the first sample was spoken, by `time.perf_counter`."""
    client_lag: float = 0.0
    errors: list[str] = field(default_factory=list)
    refused: bool = False

    def sent(self, sample: int) -> float:
        """When it left: with its chunk, once that had been spoken."""
        return self.start + (sample // CHUNK + 1) * CHUNK / RATE


async def play(url: str, wire: Wire, audio: Pcm, offset_s: float) -> Played:
    out = Played()
    await asyncio.sleep(offset_s)
    try:
        async with connect(url + wire.path, compression=None, max_size=None, open_timeout=READY_S, ping_interval=None) as ws:
            await _open(ws, wire)
            reader = asyncio.create_task(_read(ws, wire, out))
            await _speak(ws, wire, audio, out)
            await _finish(ws, wire, reader, out)
    except (Refused, InvalidStatus) as refusal:
        out.refused = isinstance(refusal, Refused) or refusal.response.status_code == 503
        if not out.refused:
            out.errors.append(str(refusal))
    except (OSError, TimeoutError, ServerError, ConnectionClosed) as error:
        out.errors.append(f"{type(error).__name__}: {error}")
    return out


async def _open(ws: ClientConnection, wire: Wire) -> None:
    if (greeting := wire.greeting()) is not None:
        await ws.send(greeting)
    async with asyncio.timeout(READY_S):
        while not wire.ready(json.loads(await ws.recv())):
            pass


async def _read(ws: ClientConnection, wire: Wire, out: Played) -> None:
    """Until nothing follows. Parsing waits until then: it would cost the client time."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            frame = await ws.recv()
            out.frames.append((time.perf_counter(), frame))
            if wire.over(frame):
                return


async def _speak(ws: ClientConnection, wire: Wire, audio: Pcm, out: Played) -> None:
    out.start = time.perf_counter()
    for i in range(0, len(audio), CHUNK):
        due = out.start + min(i + CHUNK, len(audio)) / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        out.client_lag = max(out.client_lag, time.perf_counter() - due)
        await ws.send(wire.audio(audio[i : i + CHUNK]))


async def _finish(ws: ClientConnection, wire: Wire, reader: asyncio.Task[None], out: Played) -> None:
    """Waits until the server has closed or has told that nothing follows; or, if it does not drain, until it is quiet."""
    if not wire.drains:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await _quiet(out)
    await ws.send(wire.goodbye)
    try:
        async with asyncio.timeout(DRAIN_S):
            await reader
    except TimeoutError:
        out.errors.append(f"not done {DRAIN_S:.0f} s after the end")


async def _quiet(out: Played) -> None:
    heard = -1
    while heard != (heard := len(out.frames)):  # noqa: ASYNC110 - what is waited for is that nothing happens
        await asyncio.sleep(QUIET_S)


def read(wire: Wire, played: Played) -> tuple[list[Seen], list[Seen]]:
    """All text and the committed text over time. An error that a message tells is added to those of the stream."""
    text, committed = [], []
    for at, frame in played.frames:
        try:
            wire.take(json.loads(frame))
        except ServerError as error:
            played.errors.append(str(error))
        text.append(Seen(at, wire.text))
        committed.append(Seen(at, wire.committed))
    return text, committed
