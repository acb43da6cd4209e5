"""One live stream of the native protocol, paced in real time, and what its user saw.

Definitions are those of docs/performance.md. A sample counts as sent when its chunk was due, as a microphone would
deliver it; how late the client itself was with each chunk is told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from frontend.capacity.speech import RATE, Clip, Script, script

CHUNK_S = 0.1
DRAIN_S = 30.0
"""After the last audio, for the finals."""
FULL = 503
Heard = tuple[float, dict[str, Any]]
"""When a message came, and the message."""


@dataclass
class Measured:
    """Seconds of one stream, over its utterances."""

    connect: float = 0.0
    first_partial: list[float] = field(default_factory=list[float])
    partial_gaps: list[float] = field(default_factory=list[float])
    """Between one partial of an utterance and the next: they give way when the engine is busy."""
    final_lag: list[float] = field(default_factory=list[float])
    server_lag: list[float] = field(default_factory=list[float])
    """The same as the server tells it, without network and client."""
    decode_queue: list[float] = field(default_factory=list[float])
    """What finals waited for a place among the rows that are decoded."""
    references: list[str] = field(default_factory=list[str])
    hypotheses: list[str] = field(default_factory=list[str])
    missed: list[str] = field(default_factory=list[str])
    """Sentences without a final."""
    client_lag: float = 0.0
    """How late the client itself was with its latest chunk."""
    errors: list[str] = field(default_factory=list[str])
    refusal: str = ""
    """Error code of a handshake that was refused because the server is full: not an error."""

    @property
    def refused(self) -> bool:
        return bool(self.refusal)


async def stream(
    url: str, clips: Sequence[Clip], gap_s: float, offset_s: float, key: str | None = None, *, chunk_s: float = CHUNK_S
) -> Measured:
    """Plays the clips with `gap_s` of silence after each, in real time."""
    return await play(url, script(clips, gap_s), offset_s, key, chunk_s=chunk_s)


async def play(url: str, said: Script, offset_s: float, key: str | None = None, *, chunk_s: float = CHUNK_S) -> Measured:
    """What goes wrong is in the result."""
    out, messages = Measured(), list[Heard]()
    await asyncio.sleep(offset_s)
    began = time.perf_counter()
    try:
        async with connect(url, compression=None, max_size=None, additional_headers=authorization(key)) as ws:
            json.loads(await ws.recv())
            out.connect = time.perf_counter() - began
            reader = asyncio.create_task(_read(ws, messages))
            try:
                start = await _speak(ws, said, out, round(chunk_s * RATE))
                await ws.send('{"type":"close_stream"}')
                async with asyncio.timeout(DRAIN_S):
                    await reader
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)  # what ended it ends this, too
    except InvalidStatus as refusal:
        if refusal.response.status_code == FULL:
            out.refusal = refused_with(refusal)[0]
        else:
            out.errors.append(": ".join(refused_with(refusal)))
        return out
    except (OSError, TimeoutError, WebSocketException) as error:
        out.errors.append(f"{type(error).__name__}: {error}")
        return out
    _score(out, said, messages, start, chunk_s)
    return out


def authorization(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def refused_with(error: InvalidStatus) -> tuple[str, str]:
    """Code and message of a refused handshake; a proxy in between tells none of ours."""
    try:
        told = json.loads(error.response.body)["error"]
        return str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.response.status_code}", "refused"


async def _read(ws: ClientConnection, messages: list[Heard]) -> None:
    async for frame in ws:
        messages.append((time.perf_counter(), json.loads(frame)))


async def _speak(ws: ClientConnection, said: Script, out: Measured, chunk: int) -> float:
    """Sends the audio; when its first sample was spoken."""
    start = time.perf_counter()
    for i in range(0, len(said.audio), chunk):
        due = start + min(i + chunk, len(said.audio)) / RATE  # a chunk can be sent when it has been spoken
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        out.client_lag = max(out.client_lag, time.perf_counter() - due)
        await ws.send(said.audio[i : i + chunk].tobytes())
    return start


def _score(out: Measured, said: Script, messages: list[Heard], start: float, chunk_s: float) -> None:
    """First partial and final lag of each clip."""
    chunk = round(chunk_s * RATE)
    spans = [(o + c.speech_start, o + c.speech_end) for o, c in zip(said.offsets, said.clips, strict=True)]
    finals = [(t, m) for t, m in messages if m["type"] == "final"]
    for clip, (begin, end), following in zip(said.clips, spans, [*(b for b, _ in spans[1:]), float("inf")], strict=True):
        mine = [
            (t, m)
            for t, m in finals
            if begin - RATE <= m["start"] * RATE + m["duration"] * RATE / 2 < min(following, end + 2 * RATE)
        ]
        out.references.append(clip.text)
        out.hypotheses.append(" ".join(m["transcript"] for _, m in mine))
        sent_first, sent_last = (start + (s // chunk + 1) * chunk_s for s in (begin, end))
        partials = [
            t
            for t, m in messages
            if m["type"] == "interim" and begin - RATE / 2 <= (m["start"] + m["duration"]) * RATE <= end + RATE
        ]
        if partials:
            out.first_partial.append(partials[0] - sent_first)
            out.partial_gaps += [b - a for a, b in itertools.pairwise(partials)]
        if mine:
            out.final_lag.append(mine[-1][0] - sent_last)
        else:
            out.missed.append(clip.text)
    for _, m in finals:
        told = m["metadata"]
        out.server_lag.append(told["lag_ms"] / 1000)
        out.decode_queue.append(told["queue_ms"] / 1000)
    out.errors += [m["error"]["message"] for _, m in messages if m["type"] == "error"]
