"""Bad input gets a clear error with a stable code, and the stream goes on wherever it can."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Client, client, silence

MESSAGES = {
    "not JSON": ("{nope", "INVALID_MESSAGE"),
    "a list": ("[1, 2]", "INVALID_MESSAGE"),
    "no type": ("{}", "INVALID_MESSAGE"),
    "unknown type": ('{"type":"sing"}', "INVALID_MESSAGE"),
    "type that is no string": ('{"type":7}', "INVALID_MESSAGE"),
    "deep nesting": ("[" * 100_000, "INVALID_MESSAGE"),
    "audio without data": ('{"type":"audio"}', "INVALID_MESSAGE"),
    "base64 that is none": ('{"type":"audio","data":"@@@"}', "INVALID_MESSAGE"),
    "configure without config": ('{"type":"configure"}', "INVALID_MESSAGE"),
    "unknown setting": ('{"type":"configure","config":{"volume":11}}', "INVALID_CONFIG"),
    "setting out of range": ('{"type":"configure","config":{"endpointing_ms":5}}', "INVALID_CONFIG"),
    "unknown encoding": ('{"type":"configure","config":{"encoding":"mp17"}}', "INVALID_AUDIO_FORMAT"),
    "wrong rate": ('{"type":"configure","config":{"sample_rate":96000}}', "INVALID_AUDIO_FORMAT"),
    "unknown model": ('{"type":"configure","config":{"model":"huge"}}', "UNKNOWN_MODEL"),
}


@pytest.mark.parametrize(("message", "code"), MESSAGES.values(), ids=MESSAGES.keys())
async def test_a_wrong_message_is_answered_by_its_error_and_the_stream_goes_on(server, speak, message: str, code: str):
    async with client(server.ws) as c:
        await c.ws.send(message)
        error = (await c.until("error"))["error"]
        assert (error["code"], error["fatal"]) == (code, False)
        assert len(error["message"]) > 20
        await c.audio(speak("Please close the door.").audio)
        await c.finish()
        assert c.text()


async def test_text_that_is_not_utf8_closes_the_connection_with_1007(server):
    async with connect(server.ws, compression=None) as ws:
        await ws.recv()
        await ws.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await ws.recv()
    assert closed.value.rcvd.code == 1007


REFUSED = {
    "encoding=mp17": (415, "INVALID_AUDIO_FORMAT", "linear16"),
    "sample_rate=4000": (415, "INVALID_AUDIO_FORMAT", "8000"),
    "channels=0": (415, "INVALID_AUDIO_FORMAT", "16"),
    "sample_rate=fast": (400, "INVALID_CONFIG", "sample_rate"),
    "endpointing_ms=9": (400, "INVALID_CONFIG", "endpointing_ms"),
    "language=english-please": (400, "INVALID_CONFIG", "language"),
    "model=huge": (404, "UNKNOWN_MODEL", "nano"),
}


@pytest.mark.parametrize(("query", "expected"), REFUSED.items(), ids=REFUSED.keys())
async def test_a_wrong_query_is_refused_at_the_handshake(server, query: str, expected: tuple[int, str, str]):
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{server.ws}?{query}")
    status, code, hint = expected
    error = json.loads(refused.value.response.body)["error"]
    assert (refused.value.response.status_code, error["code"]) == (status, code)
    assert hint in error["message"]


async def test_another_path_is_refused(server):
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws.replace("transcribe", "sing"))
    assert refused.value.response.status_code == 404


async def test_a_frame_over_the_limit_gets_an_error_that_names_it_and_nothing_before_is_lost(server, speak):
    async with client(server.ws) as c:
        await c.audio(speak("The dog followed the old man.").audio)
        await c.ws.send(bytes(1_000_000))
        closed = await c.until("closed")
        assert closed["reason"] == "MESSAGE_TOO_BIG"
        (error,) = [m["error"] for m in c.messages if m["type"] == "error"]
        assert "524288" in error["message"]
        assert c.text()
        await c.ws.wait_closed()
        assert c.ws.close_code == 1009


async def test_a_frame_too_big_even_to_read_closes_with_1009(server):
    ws = await connect(server.ws, compression=None, max_size=None)  # its own close trips over an aborted transport
    await ws.send(bytes(5_000_000))
    await ws.wait_closed()
    assert ws.close_code == 1009


async def test_audio_in_one_byte_frames_is_the_same_audio(server, speak):
    audio = speak("Good morning, Alice.").audio
    async with client(server.ws, interim_results=False) as c:
        await c.audio(audio)
        await c.finish()
    async with client(server.ws, interim_results=False) as d:
        data = audio.astype("<i2").tobytes()
        for i in range(6000):
            await d.ws.send(data[i : i + 1])
        await d.ws.send(data[6000:])
        await d.finish()
    assert d.text() == c.text() != ""
    assert [w for f in d.finals() for w in f["words"]] == [w for f in c.finals() for w in f["words"]]


async def test_language_can_not_change_after_audio_but_the_format_can(server, speak):
    audio = speak("We need seven eggs.").audio
    async with client(server.ws) as c:
        await c.audio(silence(0.5))
        await c.send(type="configure", config={"language": "de"})
        assert (await c.until("error"))["error"]["code"] == "INVALID_CONFIG"
        await c.send(type="configure", config={"encoding": "float32"})
        assert (await c.until("configured"))["config"]["language"] == "en"
        await c.ws.send((audio.astype("<f4") / 32768).tobytes())
        await c.finish()
        assert c.text()


async def test_a_session_of_hostile_bytes_ends_cleanly(server, shared_speech):
    for path in sorted((shared_speech / "formats").rglob("*.*")):
        async with client(server.ws) as c:
            data = path.read_bytes()[:400_000]
            for i in range(0, len(data), 30_011):
                await c.ws.send(data[i : i + 30_011])
            closed = await c.finish()
            assert closed["reason"] == "client closed the stream", path.name


async def test_a_flood_of_wrong_messages_from_a_client_that_does_not_read_is_cut_off(start_server):
    server = start_server(slow_client_s="2")
    async with connect(server.ws, compression=None, max_queue=1) as ws:
        with pytest.raises(ConnectionClosed):
            for _ in range(200_000):
                await ws.send("x" * 1000)
    async with asyncio.timeout(10):
        while server.metric("voiceforge_connections"):
            await asyncio.sleep(0.05)
    async with client(server.ws) as c:
        assert isinstance(c, Client)


async def test_silence_for_an_hour_gives_nothing_and_costs_nothing(start_server):
    import psutil

    server = start_server()
    process = psutil.Process(server.process.pid)
    async with client(server.ws) as c:
        await c.audio(silence(60), chunk_s=1)
        before = process.memory_info().rss
        for _ in range(59):
            await c.audio(silence(60), chunk_s=1)
        closed = await c.finish()
        growth = process.memory_info().rss - before
    assert closed["audio_s"] == 3600
    assert (closed["finals"], closed["interims"]) == (0, 0)
    assert growth < 10 * 2**20


async def test_audio_faster_than_real_time_loses_nothing(server, speak):
    said = speak("The train leaves at nine.")
    whole = np.concatenate([np.concatenate([said.audio, silence(1.0)]) for _ in range(40)])
    async with client(server.ws, interim_results=False) as c:
        await c.audio(whole, chunk_s=1.0)
        closed = await c.finish()
    finals = c.finals()
    assert len(finals) == 40
    assert closed["audio_s"] == round(len(whole) / 16000, 3)
    period = (len(said.audio) + 16000) / 16000
    for i, final in enumerate(finals):
        assert abs(final["words"][0]["start"] - (i * period + said.words[0][1])) < 0.5
