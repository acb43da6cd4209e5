"""Deepgram's wire against the real server and the real Triton, message by message. Real clients are in tests/contract."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from frontend.server.callbacks import signature
from tests.conftest import RATE, Server, silence
from tests.http_site import Site, serving
from tests.unit.deepgram_schema import validate

KEY = {"Authorization": "Token secret"}
RAW = {"encoding": "linear16", "sample_rate": "16000"}
TRAIN, WINDOW = "The train to London leaves at half past three.", "Please open the window in the kitchen."


@pytest.fixture(scope="module")
def deepgram(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key, which may call this machine."""
    running = Server(
        repository, tmp_path_factory.mktemp("deepgram") / "log.txt", api_keys="secret", allow_private_urls="true",
        callback_secret="shared", no_data_timeout_s="3", callback_attempts="4",
    )  # fmt: skip
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as one:
        yield one


class Client:
    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.messages: list[dict[str, Any]] = []

    async def audio(self, samples: np.ndarray, pause_s: float = 0.0) -> None:
        """In pieces of 200 ms."""
        data = samples.astype("<i2").tobytes()
        for i in range(0, len(data), 6400):
            await self.ws.send(data[i : i + 6400])
            await asyncio.sleep(pause_s)

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message with these fields."""
        async with asyncio.timeout(40):
            while True:
                message = json.loads(await self.ws.recv())
                validate(message)
                self.messages.append(message)
                if message["type"] == kind and all(message[k] == v for k, v in fields.items()):
                    return message

    async def rest(self) -> tuple[int, str]:
        """Reads to the end; code and reason of the close frame."""
        with contextlib.suppress(ConnectionClosed):
            await self.until("nothing has this type")
        return self.ws.close_code or 0, self.ws.close_reason or ""

    def finals(self, channel: int = 0) -> list[str]:
        return [
            m["channel"]["alternatives"][0]["transcript"]
            for m in self.messages
            if m["type"] == "Results" and m["is_final"] and m["channel_index"][0] == channel
        ]


def address(server: Server, query: dict[str, Any]) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/listen?{httpx.QueryParams(query)}"


@contextlib.asynccontextmanager
async def client(server: Server, **query: Any) -> AsyncIterator[Client]:
    async with connect(address(server, RAW | query), additional_headers=KEY, compression=None) as ws:
        yield Client(ws)


def wav(*channels: np.ndarray) -> bytes:
    length = max(map(len, channels))
    file = io.BytesIO()
    soundfile.write(file, np.stack([np.pad(c, (0, length - len(c))) for c in channels], 1), RATE, format="WAV")
    return file.getvalue()


def post(server: Server, *, query: dict[str, Any] | None = None, key: dict[str, str] = KEY, **body: Any) -> httpx.Response:
    answer = httpx.post(f"{server.http}/v1/listen", params=query, headers=key, timeout=90, **body)
    validate(answer.json())
    return answer


# --- live ---------------------------------------------------------------------------------------------------------


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


# --- recordings ---------------------------------------------------------------------------------------------------


def test_a_recording_is_transcribed_with_everything_asked_for(deepgram, speak):
    audio = np.concatenate([speak(TRAIN).audio, silence(2.5), speak(WINDOW).audio])
    query = {"smart_format": True, "utterances": True, "search": "window", "tag": "x", "diarize": True, "model": "nova-3"}
    data = wav(audio)
    answer = post(deepgram, query=query, content=data)
    told = answer.json()
    assert answer.headers["dg-request-id"] == told["metadata"]["request_id"]
    assert told["metadata"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["metadata"]["duration"] == pytest.approx(len(audio) / RATE, abs=0.002)
    assert told["metadata"]["not_in_effect"] == ["diarize"]
    (channel,) = told["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "The train to London leaves at half past 3. " + WINDOW
    assert [u["transcript"] for u in told["results"]["utterances"]] == [
        "The train to London leaves at half past 3.", WINDOW,
    ]  # fmt: skip
    assert len(channel["alternatives"][0]["paragraphs"]["paragraphs"]) == 2
    assert channel["search"][0]["hits"][0]["snippet"] == "window"


def test_channels_of_a_recording(deepgram, speak):
    data = wav(speak(TRAIN).audio, speak(WINDOW).audio)
    told = post(deepgram, query={"multichannel": True, "punctuate": True}, content=data).json()
    assert [c["alternatives"][0]["transcript"] for c in told["results"]["channels"]] == [TRAIN, WINDOW]


def test_samples_without_a_header(deepgram, speak):
    data = speak(TRAIN).audio.astype("<i2").tobytes()
    told = post(deepgram, query=RAW | {"punctuate": True}, content=data).json()
    assert told["results"]["channels"][0]["alternatives"][0]["transcript"] == TRAIN


def test_a_recording_is_fetched(deepgram, site: Site, speak):
    site.files["/train.wav"] = wav(speak(TRAIN).audio)
    told = post(deepgram, query={"punctuate": True}, json={"url": f"{site.url}/train.wav"}).json()
    assert told["results"]["channels"][0]["alternatives"][0]["transcript"] == TRAIN


def test_a_recording_for_a_callback_is_answered_at_once(deepgram, site: Site, speak):
    site.refuse = 1
    query = {"punctuate": True, "callback": f"{site.url}/done"}
    accepted = post(deepgram, query=query, content=wav(speak(TRAIN).audio)).json()
    (body,) = site.wait(1)
    validate(body)
    assert accepted == {"request_id": body["metadata"]["request_id"]}
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == TRAIN


def test_a_callback_also_hears_what_went_wrong(deepgram, site: Site):
    accepted = post(deepgram, query={"callback": f"{site.url}/done"}, content=b"no audio" * 100).json()
    (body,) = site.wait(1)
    validate(body)
    assert (body["request_id"], body["err_code"]) == (accepted["request_id"], "Bad Request")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"no audio" * 100}, 400, "Bad Request"),
        ({"content": b""}, 400, "Bad Request"),
        ({"content": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"}, 400, "Bad Request"),
        ({"json": {}}, 400, "Bad Request"),
        ({"json": {"url": "http://127.0.0.1:9/x.wav"}}, 400, "REMOTE_CONTENT_ERROR"),
        ({"content": b"x", "query": {"model": "parrot"}}, 400, "Bad Request"),
        ({"content": b"x", "query": {"redact": "pci", "language": "ja"}}, 400, "Bad Request"),
        ({"content": b"x", "key": {"Authorization": "Token wrong"}}, 401, "INVALID_AUTH"),
    ],
)
def test_a_recording_that_is_refused(deepgram, request_: dict[str, Any], status: int, code: str):
    answer = post(deepgram, **request_)
    assert (answer.status_code, answer.json()["err_code"]) == (status, code)
    assert answer.headers["dg-request-id"] == answer.json()["request_id"]


def test_hosts_that_are_not_public_are_refused_by_default(start_server, site: Site):
    server = start_server()
    for url in (site.url, site.url.replace("127.0.0.1", "localhost")):
        answer = post(server, json={"url": url})
        assert (answer.status_code, answer.json()["err_code"]) == (400, "REMOTE_CONTENT_ERROR")
        answer = post(server, query={"callback": site.url}, content=b"x")
        assert (answer.status_code, answer.json()["err_code"]) == (400, "REMOTE_CONTENT_ERROR")
    assert post(server, content=b"x" * 100).status_code == 400
    assert site.received == []


def test_recordings_have_limits_and_give_their_slots_back(start_server, speak):
    server = start_server(max_upload_bytes="100000", max_connections="1")
    answer = post(server, content=b"x" * 200_000)
    assert (answer.status_code, answer.json()["err_code"]) == (413, "MESSAGE_TOO_BIG")
    assert post(server, content=wav(speak("Yes.").audio)).status_code == 200


# --- connections that break ---------------------------------------------------------------------------------------------


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
