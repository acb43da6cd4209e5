"""Deepgram's live wire against the real server and Triton, message by message. Real clients are in tests/contract."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from frontend.server.callbacks import signature
from tests.conftest import RATE, silence
from tests.http_site import Site
from tests.server.deepgram import KEY, RAW, TRAIN, WINDOW, address, client
from tests.unit.deepgram_schema import validate


async def test_a_stream_from_the_first_word_to_the_close(deepgram, speak):
    audio = np.concatenate([silence(0.5), speak(TRAIN).audio, silence(1.5), speak(WINDOW).audio, silence(0.3)])
    async with client(deepgram, interim_results=True, punctuate=True, vad_events=True, model="nova-3", tag="x") as c:
        await c.audio(audio, pause_s=0.05)
        await c.send("CloseStream")
        assert await c.rest() == (1000, "")
        assert c.ws.response.headers["dg-request-id"] == c.messages[-1]["request_id"]
    kinds = [m["type"] for m in c.messages]
    assert kinds[0] == "SpeechStarted"
    assert kinds[-1] == "Metadata"
    assert c.finals() == [TRAIN, WINDOW]
    assert any(not m["is_final"] for m in c.messages if m["type"] == "Results")
    last = c.messages[-1]
    assert last["sha256"] == hashlib.sha256(audio.astype("<i2").tobytes()).hexdigest()
    assert last["duration"] == round(len(audio) / RATE, 3)
    words = [w for m in c.messages if m.get("is_final") for w in m["channel"]["alternatives"][0]["words"]]
    assert [w["start"] for w in words] == sorted(w["start"] for w in words)


async def test_without_interim_results_there_are_finals_only(deepgram, speak):
    async with client(deepgram) as c:
        await c.audio(np.concatenate([speak(TRAIN).audio, silence(1.0)]))
        await c.ws.send(b"")
        assert await c.rest() == (1000, "")
    assert [m["type"] for m in c.messages] == ["Results", "Metadata"]
    assert c.finals() == ["the train to london leaves at half past three"]


async def test_the_end_of_an_utterance_is_told_after_its_final(deepgram, speak):
    async with client(deepgram, interim_results=True, utterance_end_ms=1000) as c:
        await c.audio(np.concatenate([speak(TRAIN).audio, silence(2.0)]))
        ended = await c.until("UtteranceEnd")
    words = c.messages[-2]["channel"]["alternatives"][0]["words"]
    assert ended["channel"] == [0, 1]
    assert ended["last_word_end"] == words[-1]["end"]


async def test_interim_words_have_times_and_the_settled_ones_stay(deepgram, speak):
    async with client(deepgram, interim_results=True, punctuate=True) as c:
        await c.audio(np.concatenate([speak(TRAIN).audio, silence(1.0)]), pause_s=0.2)
        await c.until("Results", is_final=True)
    *interims, final = [m["channel"]["alternatives"][0]["words"] for m in c.messages if m["type"] == "Results"]
    assert len({w["start"] for w in interims[-1]}) > 3
    assert [w["word"] for w in final][:3] == [w["word"] for w in interims[-1]][:3]


async def test_finalize_is_always_answered(deepgram, speak):
    async with client(deepgram, endpointing=5000) as c:
        await c.send("Finalize")
        empty = await c.until("Results", from_finalize=True)
        assert empty["channel"]["alternatives"][0]["transcript"] == ""
        await c.audio(speak(TRAIN).audio)
        await c.send("Finalize")
        full = await c.until("Results", from_finalize=True)
        assert full["channel"]["alternatives"][0]["transcript"].startswith("the train")
        await c.audio(speak(WINDOW).audio)
        await c.send("CloseStream")
        await c.rest()
    assert [m["from_finalize"] for m in c.messages if m["type"] == "Results"] == [True, True, False]


async def test_features_change_in_the_middle(deepgram, speak):
    async with client(deepgram) as c:
        await c.audio(speak(TRAIN).audio)
        await c.send("Finalize")
        await c.until("Results", from_finalize=True)
        await c.send("Configure", features={"punctuate": True, "numerals": True})
        await c.until("ConfigureSuccess")
        await c.audio(speak(TRAIN).audio)
        await c.send("Finalize")
        await c.until("Results", from_finalize=True)
        await c.send("Configure", features={"diarize": True})
        await c.until("ConfigureFailure")
    assert c.finals() == ["the train to london leaves at half past three", "The train to London leaves at half past 3."]


async def test_what_is_not_understood_is_said_and_the_stream_goes_on(deepgram, speak):
    async with client(deepgram) as c:
        await c.ws.send('{"type": "Sing"}')
        error = await c.until("Error")
        assert (error["variant"], error["message"]) == ("SchemaError", '{"type": "Sing"}')
        await c.audio(speak(TRAIN).audio)
        await c.send("CloseStream")
        assert await c.rest() == (1000, "")
    assert c.finals()


async def test_channels_have_results_of_their_own(deepgram, speak):
    one, other = speak(TRAIN).audio, speak(WINDOW).audio
    both = np.stack([np.pad(one, (0, RATE)), np.pad(other, (0, RATE + len(one) - len(other)))], 1).reshape(-1)
    async with client(deepgram, channels=2, multichannel=True, punctuate=True) as c:
        await c.audio(both)
        await c.send("Finalize", channel=1)
        assert (await c.until("Results", from_finalize=True))["channel_index"] == [1, 2]
        await c.send("CloseStream")
        await c.rest()
    assert c.finals(0) == [TRAIN]
    assert c.finals(1)[0] == WINDOW
    assert c.messages[-1]["channels"] == 2
    assert c.messages[-1]["duration"] == round(len(both) / 2 / RATE, 3)


async def test_channels_that_are_not_apart_are_mixed(deepgram, speak):
    one = speak(TRAIN).audio
    async with client(deepgram, channels=2, punctuate=True) as c:
        await c.audio(np.stack([one, one], 1).reshape(-1))
        await c.send("CloseStream")
        await c.rest()
    assert c.finals(0) == [TRAIN]
    assert c.messages[-1]["channels"] == 1


async def test_silence_of_the_client_ends_the_stream_but_keep_alive_does_not(deepgram):
    async with client(deepgram) as c:
        for _ in range(4):
            await asyncio.sleep(1)
            await c.send("KeepAlive")
        began = asyncio.get_running_loop().time()
        code, reason = await c.rest()
        assert asyncio.get_running_loop().time() - began > 2.5
    assert code == 1011
    assert reason.startswith("NET-0001")


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ({}, {}, 401, "INVALID_AUTH"),
        ({}, {"Authorization": "Token wrong"}, 401, "INVALID_AUTH"),
        ({"model": "parrot"}, KEY, 400, "Bad Request"),
        ({"endpointing": "soon"}, KEY, 400, "Bad Request"),
        ({"encoding": "mp17"}, KEY, 400, "Bad Request"),
        ({"callback": "file:///etc/passwd"}, KEY, 400, "REMOTE_CONTENT_ERROR"),
    ],
)
async def test_refusals(deepgram, query: dict[str, str], headers: dict[str, str], status: int, code: str):
    with pytest.raises(InvalidStatus) as refused:
        await connect(address(deepgram, RAW | query), additional_headers=headers)
    response = refused.value.response
    body = json.loads(response.body)
    validate(body)
    assert (response.status_code, body["err_code"]) == (status, code)
    assert response.headers["dg-request-id"] == body["request_id"]


@pytest.mark.parametrize("offered", [["token", "secret"], ["bearer", "secret", "x-deepgram-session-id", "12"]])
async def test_browsers_show_the_key_as_a_subprotocol(deepgram, offered: list[str]):
    async with connect(address(deepgram, RAW), subprotocols=offered) as ws:
        assert ws.subprotocol == offered[0]


async def test_results_go_to_the_callback_signed_and_again_when_refused(deepgram, site: Site, speak):
    site.refuse = 2
    async with client(deepgram, punctuate=True, callback=f"{site.url}/results") as c:
        await c.audio(np.concatenate([speak(TRAIN).audio, silence(1.0), speak(WINDOW).audio]))
        await c.send("CloseStream")
        await c.rest()
    assert [m["type"] for m in c.messages] == ["Metadata"]
    bodies = site.wait(3)
    assert [b["type"] for b in bodies] == ["Results", "Results", "Metadata"]
    assert [b["channel"]["alternatives"][0]["transcript"] for b in bodies[:2]] == [TRAIN, WINDOW]
    headers, body = site.received[0]
    at = int(headers["voiceforge-signature"].removeprefix("t=").partition(",")[0])
    assert headers["voiceforge-signature"] == signature("shared", json.dumps(body, ensure_ascii=False).encode(), at)
    assert headers["dg-request-id"] == body["metadata"]["request_id"]


async def test_a_client_that_vanishes_still_gets_its_results_at_the_callback(deepgram, site: Site, speak):
    async with client(deepgram, punctuate=True, callback=f"{site.url}/results") as c:
        await c.audio(speak(TRAIN).audio)
    assert await asyncio.to_thread(site.wait, 2)
    assert site.bodies()[0]["channel"]["alternatives"][0]["transcript"] == TRAIN


async def test_a_callback_that_takes_nothing_ends_the_stream(deepgram, site: Site, speak):
    site.refuse = 1000
    async with client(deepgram, callback=f"{site.url}/results") as c:
        await c.audio(np.concatenate([speak(TRAIN).audio, silence(1.0)]))
        for _ in range(20):
            await asyncio.sleep(0.5)
            with contextlib.suppress(ConnectionClosed):
                await c.send("KeepAlive")
        code, reason = await c.rest()
    assert (code, reason.split(":")[0]) == (1011, "CALLBACK_FAILED")
    assert c.messages[0]["variant"] == "CALLBACK_FAILED"
