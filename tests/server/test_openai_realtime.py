"""OpenAI's Realtime wire against the real server and the real Triton, event by event. Real clients are in tests/contract."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from frontend.audio.format import AudioFormat
from frontend.audio.pcm import PcmDecoder
from tests.conftest import RATE, Pcm, Server, silence
from tests.unit.realtime_schema import validate

KEY = {"Authorization": "Bearer secret"}
TRAIN, WINDOW = "The train to London leaves at half past three.", "Please open the window in the kitchen."
TRANSCRIPTION = "conversation.item.input_audio_transcription"
COMPLETED = f"{TRANSCRIPTION}.completed"


@pytest.fixture(scope="module")
def openai(repository, tmp_path_factory) -> Iterator[Server]:
    """A server with a key, which takes silent clients of other wires for gone after a second."""
    log = tmp_path_factory.mktemp("openai") / "log.txt"
    running = Server(repository, log, api_keys="secret", no_data_timeout_s="1", max_session_s="120")
    yield running
    assert running.stop() == 0, running.log.read_text()


class Client:
    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send(json.dumps({"type": kind, **fields}))

    async def audio(self, data: bytes, n_bytes: int = 9600, pause_s: float = 0.0) -> None:
        for i in range(0, len(data), n_bytes):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(data[i : i + n_bytes]).decode())
            await asyncio.sleep(pause_s)

    async def update(self, **audio_input: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "transcription", "audio": {"input": audio_input}})
        return (await self.until("session.updated"))["session"]

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while True:
                event = json.loads(await self.ws.recv())
                validate(event)
                self.events.append(event)
                if event["type"] == kind:
                    return event

    def transcripts(self) -> list[str]:
        """Of completed items; each is what its deltas were."""
        deltas: dict[str, str] = {}
        for event in self.events:
            if event["type"] == f"{TRANSCRIPTION}.delta":
                deltas[event["item_id"]] = deltas.get(event["item_id"], "") + event["delta"]
        completed = [event for event in self.events if event["type"] == COMPLETED]
        assert all(deltas.get(event["item_id"], "") == event["transcript"] for event in completed)
        return [event["transcript"] for event in completed]


@contextlib.asynccontextmanager
async def client(server: Server, query: str = "intent=transcription", **headers: str) -> AsyncIterator[Client]:
    url = f"ws://127.0.0.1:{server.port}/v1/realtime?{query}"
    async with connect(url, additional_headers=KEY | headers, compression=None) as ws:
        yield Client(ws)


def pcm(*pieces: Pcm, rate: int = 24_000) -> bytes:
    audio = np.concatenate(pieces).astype(np.float32) / 32768
    return (np.clip(soxr.resample(audio, RATE, rate), -1, 1) * 32767).astype("<i2").tobytes()


def mulaw(*pieces: Pcm) -> bytes:
    """ITU-T G.711, by the next higher of the values that its codes have."""
    table = PcmDecoder(AudioFormat("mulaw", 8_000)).decode(bytes(range(256)))
    order = np.argsort(table)
    samples = np.frombuffer(pcm(*pieces, rate=8_000), "<i2") / 32768
    at = np.clip(np.searchsorted(table[order], samples), 0, 255)
    return order[at].astype(np.uint8).tobytes()


async def test_a_stream_of_two_utterances(openai, speak):
    async with client(openai, "intent=transcription&model=gpt-4o-transcribe") as c:
        created = await c.until("session.created")
        assert created["session"]["voiceforge"]["model"] == "nano"
        session = await c.update(
            format={"type": "audio/pcm", "rate": 24_000}, transcription={"model": "gpt-4o-transcribe", "language": "en"},
            turn_detection={"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500},
        )  # fmt: skip
        assert session["voiceforge"]["not_in_effect"] == []
        spoken = speak(TRAIN).audio
        await c.audio(pcm(silence(0.5), spoken, silence(1.0), speak(WINDOW).audio, silence(0.8)), pause_s=0.05)
        await c.until(COMPLETED)
        await c.until(COMPLETED)
        assert c.ws.response.headers["x-request-id"].replace("-", "") == created["session"]["id"].removeprefix("sess_")
    assert c.transcripts() == [TRAIN, WINDOW]
    kinds = [event["type"].removeprefix("input_audio_buffer.") for event in c.events[2:]]
    assert kinds[0] == "speech_started"
    assert kinds.index(f"{TRANSCRIPTION}.delta") < kinds.index("speech_stopped"), "there are deltas while one speaks"
    started, stopped = (next(e for e in c.events if e["type"].endswith(k)) for k in ("speech_started", "speech_stopped"))
    assert started["audio_start_ms"] == pytest.approx(200, abs=150)
    assert stopped["audio_end_ms"] == pytest.approx(500 + 1000 * len(spoken) / RATE, abs=250)
    committed = [event for event in c.events if event["type"] == "input_audio_buffer.committed"]
    assert [event["previous_item_id"] for event in committed] == [None, committed[0]["item_id"]]
    assert len({event["event_id"] for event in c.events}) == len(c.events)


async def test_manual_commits_and_a_pause_between_them(openai, speak):
    async with client(openai) as c:
        await c.update(turn_detection=None)
        await c.audio(pcm(speak(TRAIN).audio, silence(1.2), speak(WINDOW).audio))
        await c.send("input_audio_buffer.commit")
        await c.until(COMPLETED)
        await asyncio.sleep(2.5)  # longer than clients of other wires may say nothing
        await c.audio(pcm(speak(WINDOW).audio))
        await c.send("input_audio_buffer.commit")
        await c.until(COMPLETED)
        await c.send("input_audio_buffer.commit", event_id="mine")
        error = (await c.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
    assert c.transcripts() == [f"{TRAIN} {WINDOW}", WINDOW]
    assert not any("speech" in event["type"] for event in c.events)


async def test_silence_that_is_committed_is_an_empty_item(openai):
    async with client(openai) as c:
        await c.update(turn_detection=None)
        await c.audio(pcm(silence(1.0)))
        await c.send("input_audio_buffer.commit")
        assert (await c.until(COMPLETED))["transcript"] == ""


async def test_what_is_cleared_is_gone(openai, speak):
    async with client(openai) as c:
        await c.update(turn_detection=None)
        await c.audio(pcm(speak(TRAIN).audio, silence(0.2)))
        await c.send("input_audio_buffer.clear")
        await c.until("input_audio_buffer.cleared")
        await c.audio(pcm(speak(WINDOW).audio))
        await c.send("input_audio_buffer.commit")
        await c.until(COMPLETED)
    assert c.transcripts() == [WINDOW]


async def test_the_beta_over_a_telephone(openai, speak):
    async with client(openai, "intent=transcription", **{"OpenAI-Beta": "realtime=v1"}) as c:
        await c.until("transcription_session.created")
        session = {"input_audio_format": "g711_ulaw", "input_audio_transcription": {"model": "whisper-1"}}
        await c.send("transcription_session.update", session=session)
        told = (await c.until("transcription_session.updated"))["session"]
        assert (told["input_audio_format"], told["input_audio_transcription"]["model"]) == ("g711_ulaw", "whisper-1")
        await c.audio(mulaw(silence(0.3), speak(WINDOW).audio, silence(1.0)), 1600)
        await c.until(COMPLETED)
    (text,) = c.transcripts()
    assert "window" in text
    assert "conversation.item.created" in {event["type"] for event in c.events}


async def test_a_client_that_sends_nonsense_is_told_and_served(openai, speak):
    async with client(openai) as c:
        for frame in ("nonsense", b"\xff\xfe", "[]", json.dumps({"type": "response.create", "event_id": "r"})):
            await c.ws.send(frame)
            await c.until("error")
        await c.send("input_audio_buffer.append", audio="not base64!")
        assert (await c.until("error"))["error"]["param"] == "audio"
        transcription = {"model": "no-such-model"}
        await c.send("session.update", session={"audio": {"input": {"transcription": transcription}}})
        assert (await c.until("error"))["error"]["code"] == "model_not_found"
        await c.send("session.update", session={"audio": {"input": {"transcription": {"language": "fr"}}}})
        assert (await c.until("error"))["error"]["param"] == "session.audio.input.transcription.language"
        await c.audio(pcm(speak(WINDOW).audio, silence(1.0)))
        await c.until(COMPLETED)
        await c.send("session.update", session={"audio": {"input": {"turn_detection": {"threshold": 0.9}}}})
        assert "before the first audio" in (await c.until("error"))["error"]["message"]
    assert c.transcripts() == [WINDOW]


@pytest.mark.parametrize(
    ("query", "key", "status", "code"),
    [
        ("intent=transcription", "wrong", 401, "invalid_api_key"),
        ("model=no-such-model", "secret", 404, "model_not_found"),
        ("intent=conversation", "secret", 400, "invalid_config"),
    ],
)
async def test_refused_handshakes(openai, query: str, key: str, status: int, code: str):
    with pytest.raises(InvalidStatus) as caught:
        async with client(openai, query, Authorization=f"Bearer {key}"):
            pass
    answer = caught.value.response
    body = json.loads(answer.body)
    validate(body)
    assert (answer.status_code, body["error"]["code"]) == (status, code)
    assert "x-request-id" in answer.headers


async def test_the_key_in_a_subprotocol(openai):
    url = f"ws://127.0.0.1:{openai.port}/v1/realtime?model=gpt-realtime"
    async with connect(url, subprotocols=["realtime", "openai-insecure-api-key.secret", "openai-beta.realtime-v1"]) as ws:
        assert ws.subprotocol == "realtime"
        told = json.loads(await ws.recv())
    assert told["type"] == "session.created"
    assert told["session"]["input_audio_format"] == "pcm16"


async def test_a_server_that_stops_completes_what_was_heard(start_server, speak):
    server = start_server(api_keys="secret")
    async with client(server) as c:
        await c.update(turn_detection=None)
        await c.audio(pcm(speak(WINDOW).audio), pause_s=0.1)
        await c.until(f"{TRANSCRIPTION}.delta")
        await asyncio.to_thread(server.stop)
        with contextlib.suppress(ConnectionClosed):
            await c.until("nothing has this type")
        assert c.ws.close_code == 1012
    assert c.transcripts() == [WINDOW]
    assert [e["error"]["code"] for e in c.events if e["type"] == "error"] == ["shutting_down"]
