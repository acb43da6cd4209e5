"""Streams of Deepgram's wire whose connection breaks and comes again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from tests.conftest import RATE, Server, silence
from tests.server.deepgram import KEY, RAW, TRAIN, WINDOW, Client


@pytest.fixture(scope="module")
def resuming(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(repository, tmp_path_factory.mktemp("resuming") / "log.txt", resume_deepgram="true")
    yield running
    assert running.stop() == 0, running.log.read_text()


@contextlib.asynccontextmanager
async def named(server: Server, session: str, *, offered: bool = False, **query: str) -> AsyncIterator[Client]:
    """A connection with Deepgram's session id, in a header or among the subprotocols, as browsers have to."""
    url = f"ws://127.0.0.1:{server.port}/v1/listen?" + "&".join(f"{k}={v}" for k, v in {**RAW, **query}.items())
    subprotocols: Any = ["token", "secret", "x-deepgram-session-id", session] if offered else None
    headers = {} if offered else {"x-deepgram-session-id": session, **KEY}
    async with connect(url, additional_headers=headers, subprotocols=subprotocols, compression=None) as ws:
        yield Client(ws)


async def vanish(c: Client) -> None:
    c.ws.transport.abort()
    await c.ws.wait_closed()


@pytest.mark.parametrize("offered", [False, True])
async def test_a_client_that_connects_again_goes_on(resuming: Server, speak, offered: bool):
    audio = np.concatenate([speak(TRAIN).audio, silence(0.8), speak(WINDOW).audio])
    session = f"client-{offered}"
    async with named(resuming, session, offered=offered) as c:
        request = c.ws.response and c.ws.response.headers["dg-request-id"]
        await c.audio(audio[: len(audio) // 2])
        await (await c.ws.ping())  # all of it has arrived
        await vanish(c)
    async with named(resuming, session, offered=offered) as again:
        assert again.ws.response
        assert again.ws.response.headers["dg-request-id"] == request
        await again.audio(audio[len(audio) // 2 :])
        await again.send("CloseStream")
        metadata = await again.until("Metadata")
        assert (await again.rest())[0] == 1000
    assert metadata["request_id"] == request
    assert metadata["duration"] == pytest.approx(len(audio) / RATE, abs=0.001)
    assert metadata["sha256"] == hashlib.sha256(audio.astype("<i2").tobytes()).hexdigest()
    assert again.finals()


async def test_streams_that_share_an_id_stay_apart(resuming: Server, speak):
    """The Python client sends one id with all of its streams."""
    said = speak(WINDOW).audio
    async with named(resuming, "shared") as one, named(resuming, "shared") as two:
        await one.audio(said)
        await two.audio(said)
        await vanish(one)
        await vanish(two)
    async with named(resuming, "shared") as third:
        await third.send("CloseStream")
        assert (await third.until("Metadata"))["duration"] == 0
    async with named(resuming, "other-settings") as one:
        await one.audio(said)
        await vanish(one)
    async with named(resuming, "other-settings", interim_results="true") as two:
        await two.send("CloseStream")
        assert (await two.until("Metadata"))["duration"] == 0


async def test_nothing_goes_on_unless_the_operator_says_so(deepgram: Server, speak):
    async with named(deepgram, "mine") as c:
        await c.audio(speak(WINDOW).audio)
        await vanish(c)
    async with named(deepgram, "mine") as again:
        await again.send("CloseStream")
        assert (await again.until("Metadata"))["duration"] == 0
    assert deepgram.metric("voiceforge_parked_sessions") == 0
