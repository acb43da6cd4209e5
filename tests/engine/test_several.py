"""Several Tritons: sessions are spread, stay where they are, and move with what was said when a server goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import numpy as np
import psutil
import pytest
import pytest_asyncio

from frontend.embedded import EmbeddedTriton
from frontend.inference.engine import TritonEngine
from frontend.inference.streams import TritonAsrStream, TritonVadStream
from frontend.inference.triton import Patience
from frontend.speech.events import Decode, RunAsr
from frontend.speech.vad_gate import FRAME
from tests.engine.client import alike

RECOVERY_S = 15
"""Generous: what is promised is 5 s on a machine with nothing else to do; see docs/operating.md."""


@pytest_asyncio.fixture
async def pair(start) -> tuple[EmbeddedTriton, EmbeddedTriton]:
    return await start(), await start()


@pytest_asyncio.fixture
async def engine(pair: tuple[EmbeddedTriton, EmbeddedTriton]) -> AsyncIterator[TritonEngine]:
    both = TritonEngine(*(server.address for server in pair), patience=Patience(call=30, outage=30))
    await both.models()
    watch = asyncio.create_task(both.watch())
    yield both
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await both.close()


async def listen(streams: list[TritonVadStream], audio: np.ndarray) -> list[list[float]]:
    return await asyncio.gather(*(s.probabilities(audio) for s in streams))


async def decode(streams: list[TritonAsrStream], audio: np.ndarray, command: Decode = Decode.FINAL) -> list[str]:
    answers = await asyncio.gather(*(s.decode(RunAsr(command, 1, 0, len(audio)), audio) for s in streams))
    return [a.text for a in answers]


def held(engine: TritonEngine) -> list[int]:
    return [server.held for server in engine.servers]


async def test_streams_are_spread_and_their_places_given_back(engine: TritonEngine, spoken):
    streams = [engine.asr_stream("nano", "en") for _ in range(6)]
    texts = await decode(streams, spoken[0])
    assert len(set(texts)) == 1
    assert held(engine) == [3, 3]
    await decode(streams, spoken[0])
    assert held(engine) == [3, 3], "a stream stays where it is"
    for s in streams:
        await s.close()
    assert held(engine) == [0, 0]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_server_that_goes_away_or_hangs_loses_no_word(engine: TritonEngine, pair, spoken, ending: signal.Signals):
    audio = np.concatenate(spoken[:2])
    half = len(audio) // 2 // FRAME * FRAME
    alone = engine.vad_stream()
    whole = [*(await alone.probabilities(audio[:half])), *(await alone.probabilities(audio[half:]))]
    await alone.close()
    hearing, writing = ([make() for _ in range(4)] for make in (engine.vad_stream, lambda: engine.asr_stream("nano", "en")))
    first = await listen(hearing, audio[:half])
    await decode(writing, audio[:half], Decode.PARTIAL)
    assert held(engine) == [4, 4]
    victim = psutil.Process(pair[0].pid)
    for process in [victim, *victim.children(recursive=True)]:
        os.kill(process.pid, ending)
    began = time.monotonic()
    second = await listen(hearing, audio[half:])
    texts = await decode(writing, audio)
    took = time.monotonic() - began
    assert took < RECOVERY_S, "not at the call's time-out of 30 s"
    assert len(set(texts)) == 1
    assert len(texts[0].split()) > 6
    for a, b in zip(first, second, strict=True):
        assert alike([*a, *b], whole)
    assert held(engine)[1] >= 6
    for s in [*hearing, *writing]:
        await s.close()


async def test_models_are_loaded_and_unloaded_everywhere_and_told_once(engine: TritonEngine):
    assert [info.name for info in await engine.models()] == ["nano"]
    assert await engine.repository() == {"nano": True}
    for server in engine.servers:
        await server.canary()
    await engine.canary()
