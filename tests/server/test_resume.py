"""Connections break, in the middle of a sentence, and the client goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import RATE, ROOT, Client, Message, Server, assert_same_words, client, silence
from tests.server.proxy import proxied

TEXT = "The old woman walked through the garden, and the dog followed her slowly."
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "frontend/protocols/native.schema.json").read_text()))
SECOND = "The train to London leaves at half past three."


async def settings_of(url: str, **query: Any) -> tuple[int, Message]:
    """Status and error of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with client(url, **query):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body)["error"]


async def vanish(c: Client) -> None:
    """Without a close frame, when all has arrived: a socket closed with messages unread forgets what it sent."""
    await (await c.ws.ping())
    c.ws.transport.abort()
    await c.ws.wait_closed()


async def undisturbed(server: Server, audio: np.ndarray) -> list[Message]:
    async with client(server.ws) as c:
        await c.audio(audio, realtime=True)
        await c.finish()
    return c.finals()


def said(finals: list[Message]) -> list[Message]:
    return [w for m in finals for w in m["words"]]


async def eventually(true: Callable[[], bool], what: str) -> None:
    for _ in range(200):
        if await asyncio.to_thread(true):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


@pytest.mark.parametrize("at_s", [1.0, 2.3])
async def test_a_cut_in_mid_sentence_changes_neither_text_nor_times(server: Server, speak, at_s: float):
    audio = np.concatenate([speak(TEXT).audio, silence(1.0), speak(SECOND).audio, silence(0.3)])
    expected = await undisturbed(server, audio)
    async with proxied(server) as proxy:
        async with client(proxy.ws) as c:
            session = c.messages[0]["session_id"]
            await c.audio(audio[: round(at_s * RATE)], realtime=True)
            proxy.cut()
            await c.ws.wait_closed()
        async with client(proxy.ws, session=session) as again:
            ready = again.messages[0]
            assert ready["resumed"] is True
            assert ready["session_id"] == session
            held = ready["held"]["samples"]
            assert 0 < held <= round(at_s * RATE)
            assert ready["held"]["bytes"] == 2 * held
            await again.audio(audio[held:], realtime=True)
            closed = await again.finish()
    assert closed["audio_s"] == pytest.approx(len(audio) / RATE, abs=0.001)
    for message in (*c.messages, *again.messages):
        SCHEMA.validate(message)
    assert closed["finals"] == len(expected)
    assert [m["transcript"] for m in again.finals()] == [m["transcript"] for m in expected]
    assert_same_words(said(again.finals()), said(expected))


async def test_the_closing_sums_are_those_of_the_results(server: Server, speak):
    async with client(server.ws) as c:
        await c.audio(np.concatenate([speak(TEXT).audio, silence(0.8), speak(SECOND).audio, silence(0.8)]), realtime=True)
        closed = await c.finish()
    results = [m["metadata"] for m in c.messages if m["type"] in ("interim", "final")]
    lags = sorted(m["metadata"]["lag_ms"] for m in c.finals())
    assert closed["finals"] == len(lags) > 1
    assert closed["interims"] == len(results) - len(lags)
    engine_ms = sum(m["encode_ms"] + m["decode_ms"] for m in results)
    assert closed["engine_ms"] == pytest.approx(engine_ms, abs=0.1 * len(results))
    assert closed["lag_ms"]["p50"] == pytest.approx(lags[(len(lags) + 1) // 2 - 1], abs=0.1)
    assert closed["lag_ms"]["p95"] == pytest.approx(lags[-1], abs=0.1)
    assert all(m["lag_ms"] > 0 for m in results)


async def test_a_final_that_was_made_while_the_line_was_down_comes_once(server: Server, speak):
    audio = np.concatenate([speak(TEXT).audio, silence(1.0)])
    async with client(server.ws) as c:
        await c.audio(audio)
        await c.send(type="keep_alive")
        await vanish(c)
    assert c.finals() == []
    async with client(server.ws, session=c.messages[0]["session_id"]) as again:
        assert again.messages[0]["held"]["samples"] == len(audio)
        final = await again.until("final")
        assert final["transcript"]
        await again.audio(speak(SECOND).audio)
        await again.finish()
    assert [m["segment"] for m in again.finals()] == sorted({m["segment"] for m in again.finals()})
    assert again.finals()[0] == final
    assert said([final])[-1]["end"] < again.finals()[1]["start"], "the audio clock went on"


async def test_finals_after_the_one_that_the_client_names_are_told_again(server: Server, speak):
    async with client(server.ws) as c:
        for text in (TEXT, SECOND):
            await c.audio(np.concatenate([speak(text).audio, silence(0.8)]))
            await c.until("final")
        await vanish(c)
    first, second = c.finals()[0], c.finals()[-1]
    session = c.messages[0]["session_id"]
    async with client(server.ws, session=session, after=first["segment"]) as again:
        assert await again.until("final") == c.finals()[1]
        await vanish(again)
    async with client(server.ws, session=session, after=second["segment"]) as again:
        await again.finish()
    assert again.finals() == []


async def test_what_a_pong_has_acknowledged_is_not_told_again(server: Server, speak):
    async with client(server.ws) as c:
        await c.audio(np.concatenate([speak(TEXT).audio, silence(0.8)]))
        await c.until("final")
        await (await c.ws.ping())  # and the server's has been answered by then
        await asyncio.sleep(0.2)
        await vanish(c)
    async with client(server.ws, session=c.messages[0]["session_id"]) as again:
        closed = await again.finish()
    assert again.finals() == []
    assert closed["finals"] == len(c.finals())


async def test_the_end_of_a_session_arrives_over_a_second_connection(server: Server, speak):
    async with client(server.ws) as c:
        await c.audio(speak(TEXT).audio)
        await c.send(type="close_stream")
        await vanish(c)
    async with client(server.ws, session=c.messages[0]["session_id"]) as again:
        closed = await again.until("closed")
        await again.ws.wait_closed()
    assert closed["finals"] == len(again.finals()) == 1
    assert again.ws.close_code == 1000


async def test_a_client_that_says_goodbye_cannot_come_back(server: Server, speak):
    for code in (1000, 1001):
        async with client(server.ws) as c:
            await c.audio(speak(SECOND).audio)
            await c.ws.close(code)
        await eventually(lambda: server.metric("voiceforge_connections") == 0, "the connection is closed")
        status, error = await settings_of(server.ws, session=c.messages[0]["session_id"])
        assert (status, error["code"]) == (404, "UNKNOWN_SESSION")


async def test_a_session_that_waited_in_vain_is_over(start_server, speak):
    server = start_server(resume_s="1")
    async with client(server.ws) as c:
        await c.audio(speak(TEXT).audio)
        await vanish(c)
    await eventually(lambda: server.metric("voiceforge_parked_sessions") == 1, "it waits")
    await eventually(lambda: server.metric("voiceforge_parked_sessions") == 0, "not for ever")
    status, error = await settings_of(server.ws, session=c.messages[0]["session_id"])
    assert (status, error["code"]) == (404, "UNKNOWN_SESSION")
    assert "without session=" in error["message"]
    assert 'voiceforge_sessions_total{reason="client_gone"} 1.0' in server.get("/metrics")[1]
    assert server.metric("voiceforge_backlog_seconds") == pytest.approx(0, abs=1e-6)


async def test_nothing_waits_where_that_is_turned_off(start_server, speak):
    server = start_server(resume_s="0")
    async with client(server.ws) as c:
        assert c.messages[0]["limits"]["resume_s"] == 0
        await c.audio(speak(SECOND).audio)
        await vanish(c)
    await eventually(lambda: 'reason="client_gone"' in server.get("/metrics")[1], "it ended")
    status, error = await settings_of(server.ws, session=c.messages[0]["session_id"])
    assert (status, error["code"]) == (404, "UNKNOWN_SESSION")


async def test_another_key_finds_no_session(start_server, speak):
    server = start_server(api_keys="one,two")
    async with client(server.ws, api_key="one") as c:
        await c.audio(speak(SECOND).audio)
        await vanish(c)
    session = c.messages[0]["session_id"]
    stranger = await settings_of(server.ws, session=session, api_key="two")
    nobody = await settings_of(server.ws, session="0b5cbbd7-4f2b-4a43-8bd4-5e8cbd5d5f0a", api_key="two")
    assert stranger == nobody
    assert stranger[1]["code"] == "UNKNOWN_SESSION"
    assert (await settings_of(server.ws, session=session, api_key="three"))[0] == 401
    async with client(server.ws, session=session, api_key="one") as again:
        await again.finish()
        assert again.text()


async def test_what_names_no_final_is_refused(server: Server):
    status, error = await settings_of(server.ws, session="x", after="yesterday")
    assert (status, error["code"]) == (400, "INVALID_CONFIG")


async def test_other_settings_are_refused_and_the_same_are_taken(server: Server, speak):
    async with client(server.ws, endpointing_ms=700, smart_format=True) as c:
        await c.send(type="configure", config={"smart_format": False})
        await c.until("configured")
        await c.audio(speak(SECOND).audio)
        await vanish(c)
    session = c.messages[0]["session_id"]
    status, error = await settings_of(server.ws, session=session, endpointing_ms=300)
    assert (status, error["code"]) == (409, "SESSION_DIFFERS")
    assert "endpointing_ms of this session is 700" in error["message"]
    async with client(server.ws, session=session, endpointing_ms=700, smart_format=True) as again:
        assert again.messages[0]["config"]["smart_format"] is False
        await vanish(again)
    async with client(server.ws, session=session) as again:
        assert again.messages[0]["config"]["endpointing_ms"] == 700
        await again.finish()
        assert again.text()


async def test_a_client_that_is_connected_keeps_its_session(server: Server, speak):
    async with client(server.ws) as c:
        await c.audio(speak(SECOND).audio)
        status, error = await settings_of(server.ws, session=c.messages[0]["session_id"])
        assert (status, error["code"]) == (409, "SESSION_IN_USE")
        await c.finish()
        assert c.text()


async def test_a_dead_connection_gives_way(server: Server, speak):
    """The client's end is gone, which nobody has told the server."""
    audio = speak(TEXT).audio
    async with proxied(server) as proxy:
        async with client(proxy.ws) as c:
            await c.audio(audio[:RATE])
            await asyncio.sleep(0.5)
            proxy.lose_client()
            await c.ws.wait_closed()
        resumed = server.metric("voiceforge_resumed_total")
        async with client(server.ws, session=c.messages[0]["session_id"]) as again:
            held = again.messages[0]["held"]["samples"]
            assert held == RATE
            await again.audio(audio[held:])
            await again.finish()
    assert server.metric("voiceforge_resumed_total") == resumed + 1
    assert again.text() == " ".join(m["transcript"] for m in await undisturbed(server, audio))


async def test_of_two_that_come_back_at_once_one_goes_on(server: Server, speak):
    async with client(server.ws) as c:
        await c.audio(speak(SECOND).audio)
        await vanish(c)
    url = f"{server.ws}?session={c.messages[0]['session_id']}"

    async def come_back() -> str:
        try:
            async with connect(url, compression=None) as ws:
                one = Client(ws)
                await one.receive()
                await asyncio.sleep(1)
                await one.finish()
                return one.text()
        except InvalidStatus as refused:
            return json.loads(refused.response.body)["error"]["code"]

    outcomes = await asyncio.gather(*(come_back() for _ in range(4)))
    assert sorted(outcomes)[:3].count("SESSION_IN_USE") + sorted(outcomes)[1:].count("SESSION_IN_USE") >= 3
    assert len([o for o in outcomes if o != "SESSION_IN_USE"]) == 1


async def test_a_flood_of_broken_connections_keeps_few_sessions(start_server, speak):
    server = start_server(max_parked="5", max_connections="60")
    ids: list[str] = []
    for _ in range(30):
        async with client(server.ws) as c:
            await c.audio(speak(SECOND).audio[:RATE])
            ids.append(c.messages[0]["session_id"])
            await vanish(c)
    await eventually(lambda: server.metric("voiceforge_connections") == 0, "all are gone")
    await eventually(lambda: server.metric("voiceforge_parked_sessions") == 5, "five wait")
    assert (await settings_of(server.ws, session=ids[0]))[1]["code"] == "UNKNOWN_SESSION"
    async with client(server.ws, session=ids[-1]) as again:
        await again.finish()
        assert again.messages[-1]["audio_s"] == 1.0


async def test_a_line_that_stalls_for_a_while_and_goes_on_loses_nothing(start_server, speak):
    server = start_server(ping_interval_s="10")
    audio = np.concatenate([speak(TEXT).audio, silence(1.0), speak(SECOND).audio])
    expected = await undisturbed(server, audio)
    async with proxied(server) as proxy, client(proxy.ws) as c:
        await c.audio(audio[:RATE], realtime=True)
        proxy.hold()
        sending = asyncio.create_task(c.audio(audio[RATE:], realtime=True))
        await asyncio.sleep(5)
        proxy.go_on()
        await sending
        await c.finish()
    assert [m["transcript"] for m in c.finals()] == [m["transcript"] for m in expected]
    assert server.metric("voiceforge_resumed_total") == 0


async def test_a_client_that_stopped_reading_gets_everything_when_it_comes_back(start_server, speak):
    """Its socket is full and is given up after a while, its results are not."""
    server = start_server(slow_client_s="1")
    audio = np.concatenate([speak(TEXT).audio, silence(0.8)])
    async with proxied(server) as proxy:
        async with client(proxy.ws) as c:
            await c.audio(audio)
            proxy.lose_client()
            with contextlib.suppress(ConnectionClosed):
                await c.ws.wait_closed()
        async with client(server.ws, session=c.messages[0]["session_id"]) as again:
            await again.audio(audio[again.messages[0]["held"]["samples"] :])
            await again.finish()
    assert again.text() == " ".join(m["transcript"] for m in await undisturbed(server, audio))


async def test_a_draining_server_does_not_wait_for_the_vanished(start_server, speak):
    server = start_server()
    async with client(server.ws) as c:
        await c.audio(speak(SECOND).audio)
        await vanish(c)
    await eventually(lambda: server.metric("voiceforge_parked_sessions") == 1, "it waits")
    assert await asyncio.to_thread(server.stop) == 0


async def test_the_example_of_the_documentation_survives_three_cuts(server: Server, speak):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/protocol.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    audio = np.concatenate([speak(TEXT).audio, silence(1.0), speak(SECOND).audio, silence(0.3)])
    expected = await undisturbed(server, audio)
    async with proxied(server) as proxy:
        going = asyncio.create_task(names["transcribe"](proxy.ws, audio.astype("<i2").tobytes()))
        for _ in range(3):
            await asyncio.sleep(1.7)
            proxy.cut()
        finals = await going
    assert [m["transcript"] for m in finals] == [m["transcript"] for m in expected]
    assert [m["segment"] for m in finals] == sorted({m["segment"] for m in finals})
