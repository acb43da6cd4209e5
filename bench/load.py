"""Open-loop load: streams paced in real time, de-phased, each with its own sentences, in a process of its own.

Definitions are those of docs/performance.md. The client reports its own lag; a run whose client lagged is void.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

RATE = 16_000
CHUNK_S = 0.1
Pcm = npt.NDArray[np.int16]


@dataclass
class Clip:
    """One utterance: audio, what was said, and where speech begins and ends in it (samples)."""

    audio: Pcm
    text: str
    speech_start: int
    speech_end: int


@dataclass
class Measured:
    """Seconds of one stream, over its utterances."""

    connect: float = 0.0
    first_partial: list[float] = field(default_factory=list)
    partial_gaps: list[float] = field(default_factory=list)
    """Between one partial of an utterance and the next: they give way when the engine is busy."""
    final_lag: list[float] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    hypotheses: list[str] = field(default_factory=list)
    client_lag: float = 0.0
    errors: list[str] = field(default_factory=list)
    refused: bool = False
    """At the handshake, because the server is full: not an error."""


async def stream(url: str, clips: list[Clip], gap_s: float, offset_s: float) -> Measured:
    """Plays the clips with `gap_s` of silence after each, in real time."""
    out = Measured()
    await asyncio.sleep(offset_s)
    parts: list[Pcm] = []
    spans: list[tuple[int, int]] = []
    position = 0
    for clip in clips:
        spans.append((position + clip.speech_start, position + clip.speech_end))
        parts += [clip.audio, np.zeros(round(gap_s * RATE), np.int16)]
        position += len(clip.audio) + round(gap_s * RATE)
    audio = np.concatenate(parts)
    began = time.perf_counter()
    try:
        async with connect(url, compression=None, max_size=None) as ws:
            json.loads(await ws.recv())
            out.connect = time.perf_counter() - began
            messages: list[tuple[float, dict[str, Any]]] = []

            async def read() -> None:
                async for frame in ws:
                    messages.append((time.perf_counter(), json.loads(frame)))

            reader = asyncio.create_task(read())
            start = time.perf_counter()
            step = round(CHUNK_S * RATE)
            for i in range(0, len(audio), step):
                due = start + min(i + step, len(audio)) / RATE  # a chunk can be sent when it has been spoken
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                out.client_lag = max(out.client_lag, time.perf_counter() - due)
                await ws.send(audio[i : i + step].tobytes())
            await ws.send('{"type":"close_stream"}')
            async with asyncio.timeout(30):
                await reader
    except InvalidStatus as refusal:
        out.refused = refusal.response.status_code == 503
        if not out.refused:
            out.errors.append(str(refusal))
        return out
    except Exception as error:
        out.errors.append(f"{type(error).__name__}: {error}")
        return out
    _score(out, clips, spans, messages, start)
    return out


def _score(
    out: Measured,
    clips: list[Clip],
    spans: list[tuple[int, int]],
    messages: list[tuple[float, dict[str, Any]]],
    start: float,
) -> None:
    """First partial and final lag of each clip. A sample counts as sent when its chunk was due."""
    step = round(CHUNK_S * RATE)
    finals = [(t, m) for t, m in messages if m["type"] == "final"]
    nexts = [*(begin for begin, _ in spans[1:]), 1 << 60]
    for clip, (begin, end), following in zip(clips, spans, nexts, strict=True):
        mine = [
            (t, m)
            for t, m in finals
            if begin - RATE <= m["start"] * RATE + m["duration"] * RATE / 2 < min(following, end + 2 * RATE)
        ]
        out.references.append(clip.text)
        out.hypotheses.append(" ".join(m["transcript"] for _, m in mine))
        sent_first, sent_last = (start + (s // step + 1) * CHUNK_S for s in (begin, end))
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
            out.errors.append(f"no final for {clip.text!r}")
    out.errors += [m["error"]["message"] for _, m in messages if m["type"] == "error"]


async def run(url: str, clips: list[Clip], streams: int, per_stream: int, gap_s: float, seed: int = 5) -> list[Measured]:
    """So many streams at once, each with its own choice of clips, starts spread over three seconds."""
    r = np.random.default_rng(seed)
    chosen = [
        [clips[int(k)] for k in r.choice(len(clips), per_stream, replace=per_stream > len(clips))] for _ in range(streams)
    ]
    return await asyncio.gather(
        *(stream(url, c, gap_s, float(o)) for c, o in zip(chosen, r.uniform(0, 3, streams), strict=True))
    )
