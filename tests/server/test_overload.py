"""More streams than the engine can serve: some are refused, and those that were admitted lose nothing."""

from __future__ import annotations

import asyncio
import json

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from frontend.app import listening
from frontend.control.auth import Authenticator
from frontend.inference.fake import FakeEngine
from frontend.observability.metrics import Metrics
from frontend.protocols.native import NativeAdapter
from frontend.server.gateway import Gateway
from frontend.server.sessions import Services
from frontend.settings import Settings

RATE = 16_000
UTTERANCES = 3
SPEECH, SILENCE = np.full(RATE, 4_000, "<i2"), np.zeros(RATE, "<i2")
TALK = np.concatenate([SPEECH, SILENCE] * UTTERANCES)


async def talk(url: str) -> int | None:
    """Finals of an admitted stream; None for one that was refused cleanly."""
    try:
        ws = await connect(url)
    except InvalidStatus as refused:
        response = refused.response
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        error = json.loads(response.body)["error"]
        assert (error["code"], error["retryable"]) == ("ENGINE_BUSY", True)
        return None
    async with ws:
        for i in range(0, len(TALK), RATE // 10):
            await ws.send(TALK[i : i + RATE // 10].tobytes())
            await asyncio.sleep(0.05)  # twice as fast as speech
        await ws.send('{"type":"close_stream"}')
        messages = [json.loads(m) async for m in ws]
    assert messages[-1]["type"] == "closed"
    return sum(m["type"] == "final" for m in messages)


async def test_streams_beyond_what_the_engine_serves_are_refused_and_the_others_get_every_final():
    """A hypothesis takes 50 ms, one at a time: a few streams fill the engine, thirty are several times too many."""
    settings = Settings(port=0, admit_lag_s=0.15)
    services = Services(FakeEngine(lambda request, _: "yes indeed", delay=0.05, at_once=1), Metrics(), settings, "nano")
    gateway = Gateway(services, Authenticator([]), [NativeAdapter()])
    async with listening(settings, services, gateway, None) as running:
        url = f"{running.url.replace('http', 'ws')}/ws/v1/transcribe"
        streams: list[asyncio.Task[int | None]] = []
        for _ in range(30):
            streams.append(asyncio.create_task(talk(url)))
            await asyncio.sleep(0.1)
        told = await asyncio.gather(*streams)
        assert told[0] is not None, "the first one found an idle engine"
        assert told.count(None) >= 5
        assert {n for n in told if n is not None} == {UTTERANCES}
        assert services.metrics.registry.get_sample_value("voiceforge_refused_total", {"code": "ENGINE_BUSY"})
        await asyncio.sleep(5.5)
        assert await talk(url) == UTTERANCES, "when the rush is over, new sessions are welcome"
