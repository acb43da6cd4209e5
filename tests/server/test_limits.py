"""Time-outs, limits, keys, health and metrics."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conftest import client, silence


async def test_a_client_that_sends_nothing_is_told_and_closed_after_its_finals(start_server, speak):
    server = start_server(no_data_timeout_s="1")
    async with client(server.ws) as c:
        await c.audio(speak("Good morning, Peter.").audio)
        closed = await c.until("closed")
        kinds = [m["type"] for m in c.messages]
        assert kinds.index("final") < kinds.index("error")
        assert closed["reason"] == "NO_DATA"
        await c.ws.wait_closed()
        assert c.ws.close_code == 1011


async def test_keep_alive_holds_a_silent_stream_open(start_server):
    server = start_server(no_data_timeout_s="1.5")
    async with client(server.ws) as c:
        for _ in range(6):
            await asyncio.sleep(0.5)
            await c.send(type="keep_alive")
        assert (await c.finish())["reason"] == "client closed the stream"


async def test_a_session_has_a_longest_time(start_server, speak):
    server = start_server(max_session_s="2")
    async with client(server.ws) as c:
        talking = asyncio.create_task(c.audio(speak("She sells bread at the market every Friday.").audio, realtime=True))
        closed = await c.until("closed")
        await asyncio.gather(talking, return_exceptions=True)
        assert closed["reason"] == "SESSION_TOO_LONG"
        assert c.text()


async def test_the_connection_over_the_limit_is_refused_and_a_freed_slot_taken(start_server):
    server = start_server(max_connections="2")
    async with client(server.ws) as a, client(server.ws):
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws)
        response = refused.value.response
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert json.loads(response.body)["error"]["code"] == "TOO_MANY_CONNECTIONS"
        await a.finish()
        await a.ws.wait_closed()
        for _ in range(50):
            if server.metric("voiceforge_connections") == 1:
                break
        async with client(server.ws) as c:
            await c.finish()
    assert 'voiceforge_refused_total{code="TOO_MANY_CONNECTIONS"} 1.0' in server.get("/metrics")[1]


async def test_keys_are_asked_for_in_every_way_and_wrong_ones_refused(start_server):
    server = start_server(api_keys="first, second")
    accepted = [("?api_key=first", {}), ("", {"Authorization": "Token second"}), ("", {"Authorization": "Bearer first"})]
    for query, headers in accepted:
        async with connect(server.ws + query, additional_headers=headers) as ws:
            assert json.loads(await ws.recv())["type"] == "ready"
    for query, headers in [("", {}), ("?api_key=third", {}), ("", {"Authorization": "Basic first"}), ("?api_key=", {})]:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws + query, additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body)["error"]["code"] == "UNAUTHORIZED"
    assert "first" not in server.log.read_text()


async def test_without_keys_a_page_of_another_site_is_refused(server):
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws, origin="https://evil.example")
    assert refused.value.response.status_code == 401
    async with connect(server.ws, origin=server.http) as ws:
        assert json.loads(await ws.recv())["type"] == "ready"


async def test_health_and_metrics_tell_what_goes_on(server, speak):
    before = {n: server.metric(n) for n in ("voiceforge_finals_total", "voiceforge_audio_seconds_total")}
    audio = speak("Turn the lights on in the kitchen.").audio
    async with client(server.ws) as c:
        await c.audio(audio)
        await c.audio(silence(1))
        await c.finish()
    assert server.metric("voiceforge_finals_total") == before["voiceforge_finals_total"] + 1
    heard = server.metric("voiceforge_audio_seconds_total") - before["voiceforge_audio_seconds_total"]
    assert heard == pytest.approx(len(audio) / 16000 + 1, abs=0.01)
    assert server.get("/readyz") == (200, '{"ready":true}')
    text = server.get("/metrics")[1]
    for name in (
        "final_seconds_bucket",
        "partial_seconds_bucket",
        "vad_seconds_bucket",
        "finals_waiting",
        "outbox_messages",
        "engine_ready 1.0",
    ):
        assert f"voiceforge_{name}" in text
    assert server.get("/nothing")[0] == 404
