"""Coded audio through the whole server, live and as a recording, with the text of the same samples raw."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bench.encoded import KINDS, Kind, encode
from frontend.audio.format import ENCODINGS
from tests.conftest import RATE, Client, Server, client, silence
from tests.unit.deepgram_schema import validate

TRAIN, WINDOW = "The train to London leaves at half past three.", "Please open the window in the kitchen."
LOSSLESS = ["wav", "w64", "aiff", "au", "caf", "flac"]
CODED = [name for name in KINDS if name not in LOSSLESS]


@pytest.fixture(scope="module")
def said(speak) -> np.ndarray:
    parts = [silence(0.3), speak(TRAIN).audio, silence(0.9), speak(WINDOW).audio, silence(0.4)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def expected(server: Server, said: np.ndarray) -> Client:
    return asyncio.run(native(server, [said.tobytes()]))


async def native(server: Server, messages: list[bytes], **query: Any) -> Client:
    async with client(server.ws, **query) as c:
        for message in messages:
            await c.ws.send(message)
        await c.finish()
    return c


def messages_of(kind: Kind, samples: np.ndarray) -> list[bytes]:
    """Pieces of odd lengths, or packets."""
    messages = encode(samples, kind)
    return messages if len(messages) > 1 else [messages[0][i : i + 777] for i in range(0, len(messages[0]), 777)]


def query_of(kind: Kind) -> dict[str, Any]:
    return {"encoding": kind.encoding, "sample_rate": min(kind.rate, 48_000)}


def spoken(c: Client) -> list[tuple[str, float, float]]:
    return [(w["word"], w["start"], w["end"]) for f in c.finals() for w in f["words"]]


def different(a: str, b: str) -> float:
    """Words that differ, of all."""
    return Levenshtein.normalized_distance(a.lower().split(), b.lower().split())


def decoders(server: Server) -> list[psutil.Process]:
    """The host's children."""
    family = psutil.Process(server.process.pid).children()
    (host,) = (p for p in family if "frontend.decoding.host" in p.cmdline())
    return host.children()


async def none_left(server: Server) -> None:
    async with asyncio.timeout(20):
        while decoders(server):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", LOSSLESS)
async def test_without_loss_every_word_is_where_it_was(server, expected: Client, said: np.ndarray, name: str):
    got = await native(server, messages_of(KINDS[name], said), **query_of(KINDS[name]))
    assert [word for word, *_ in spoken(got)] == [word for word, *_ in spoken(expected)]
    for (_, *found), (_, *times) in zip(spoken(got), spoken(expected), strict=True):
        assert found == pytest.approx(times, abs=0.15), "int8 scales a batch at once, so times vary a little"
    assert got.messages[-1]["audio_s"] == expected.messages[-1]["audio_s"]


@pytest.mark.parametrize("name", CODED)
async def test_with_loss_it_is_nearly_the_text(server, expected: Client, said: np.ndarray, name: str):
    got = await native(server, messages_of(KINDS[name], said), **query_of(KINDS[name]))
    assert different(got.text(), expected.text()) <= 0.35
    assert got.messages[-1]["audio_s"] == pytest.approx(expected.messages[-1]["audio_s"], abs=0.15)
    await none_left(server)


async def test_finalize_says_what_was_sent_up_to_then(server, speak):
    packets = encode(speak(TRAIN).audio, KINDS["opus"])
    async with client(server.ws, encoding="opus", sample_rate=48_000) as c:
        for packet in packets:
            await c.ws.send(packet)
        await c.send(type="finalize")
        final = await c.until("final")
        assert final["from_finalize"]
        assert final["start"] + final["duration"] <= 0.02 * len(packets) + 0.01
        assert different(final["transcript"], TRAIN) <= 0.35
        for packet in packets:
            await c.ws.send(packet)
        closed = await c.finish()
    assert closed["audio_s"] == pytest.approx(0.04 * len(packets), abs=0.01)


async def test_the_format_may_change_in_the_middle(server, speak):
    async with client(server.ws) as c:
        await c.audio(np.concatenate([speak(TRAIN).audio, silence(1)]))
        await c.send(type="configure", config={"encoding": "auto"})
        for message in messages_of(KINDS["ogg-opus"], speak(WINDOW).audio):
            await c.ws.send(message)
        await c.send(type="configure", config={"encoding": "linear16"})
        await c.audio(np.concatenate([silence(1), speak(TRAIN).audio]))
        closed = await c.finish()
    assert different(c.text(), f"{TRAIN} {WINDOW} {TRAIN}") <= 0.35
    total = 2 * len(speak(TRAIN).audio) + len(speak(WINDOW).audio) + 2 * RATE
    assert closed["audio_s"] == pytest.approx(total / RATE, abs=0.05)


# --- Deepgram's protocol --------------------------------------------------------------------------------------------


class Told:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.close = (0, "")

    def text(self, channel: int = 0) -> str:
        finals = (m for m in self.messages if m["type"] == "Results" and m["is_final"] and m["channel_index"][0] == channel)
        return " ".join(text for m in finals if (text := m["channel"]["alternatives"][0]["transcript"]))


async def deepgram(server: Server, messages: list[bytes], **query: Any) -> Told:
    told = Told()

    async def read(ws: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                told.messages.append(json.loads(await ws.recv()))
                validate(told.messages[-1])

    url = f"ws://127.0.0.1:{server.port}/v1/listen?{httpx.QueryParams(query)}"
    async with connect(url, compression=None) as ws, asyncio.timeout(60):
        reader = asyncio.create_task(read(ws))
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await ws.send(message)
            await ws.send('{"type":"CloseStream"}')
        await reader
        told.close = ws.close_code or 0, ws.close_reason or ""
    return told


@pytest.mark.parametrize("name", ["wav", "ogg-opus", "webm", "mp3", "mp4", "flac"])
async def test_a_container_needs_no_encoding(server, said: np.ndarray, name: str):
    told = await deepgram(server, messages_of(KINDS[name], said), punctuate="true")
    assert told.close == (1000, "")
    assert different(told.text(), f"{TRAIN} {WINDOW}") <= 0.35
    assert told.messages[-1]["duration"] == pytest.approx(len(said) / RATE, abs=0.15)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("opus", "opus"), ("ogg-opus", "ogg-opus"), ("opus", "ogg-opus"), ("flac", "flac"), ("amr-nb", "amr")],
)
async def test_deepgrams_names(server, said: np.ndarray, encoding: str, name: str):
    rate = min(KINDS[name].rate, 48_000)
    told = await deepgram(server, messages_of(KINDS[name], said), encoding=encoding, sample_rate=rate, punctuate="true")
    assert told.close == (1000, "")
    assert different(told.text(), f"{TRAIN} {WINDOW}") <= 0.35


async def test_linear32(server, said: np.ndarray):
    data = (said.astype("<i4") << 16).tobytes()
    pieces = [data[i : i + 5000] for i in range(0, len(data), 5000)]
    told = await deepgram(server, pieces, encoding="linear32", sample_rate=RATE, punctuate="true")
    assert different(told.text(), f"{TRAIN} {WINDOW}") <= 0.1


@pytest.mark.parametrize("name", ["wav", "flac"])
async def test_the_channels_of_a_container_have_results_of_their_own(server, speak, name: str):
    one, other = speak(TRAIN).audio, speak(WINDOW).audio
    n = max(len(one), len(other)) + RATE
    both = np.stack([np.pad(a, (0, n - len(a))) for a in (one, other)])
    kind = Kind(KINDS[name].container, KINDS[name].codec, channels=2)
    told = await deepgram(server, messages_of(kind, both), multichannel="true", punctuate="true")
    assert (told.text(0), told.text(1)) == (TRAIN, WINDOW)
    assert {tuple(m["channel_index"]) for m in told.messages if m["type"] == "Results"} == {(0, 2), (1, 2)}
    assert told.messages[-1]["channels"] == 2


async def test_channels_that_are_known_only_at_the_end_are_told_too(server, speak):
    both = np.stack([speak(WINDOW).audio] * 2)
    (data,) = encode(both, Kind("flac", "flac", channels=2))
    async with connect(f"ws://127.0.0.1:{server.port}/v1/listen?multichannel=true", compression=None) as ws:
        await ws.send(data[:30])
        await ws.send('{"type":"Configure","features":{"punctuate":true}}')
        assert json.loads(await ws.recv())["type"] == "ConfigureSuccess"
        await ws.send(data[30:])
        await ws.send('{"type":"CloseStream"}')
        told = Told()
        with contextlib.suppress(ConnectionClosed):
            while True:
                told.messages.append(json.loads(await ws.recv()))
    assert told.text(0) == told.text(1) == WINDOW


@pytest.mark.parametrize("name", ["mp4", "webm", "amr", "w64"])
def test_a_recording_of_any_kind(server, said: np.ndarray, name: str):
    (data,) = encode(said, KINDS[name])
    answer = httpx.post(f"{server.http}/v1/listen", params={"punctuate": "true"}, content=data, timeout=60).json()
    validate(answer)
    assert different(answer["results"]["channels"][0]["alternatives"][0]["transcript"], f"{TRAIN} {WINDOW}") <= 0.35


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"no audio " * 4000, b"RIFF\x00\x00\x00\x00WAVEfmt ", bytes(30_000)])
async def test_what_nothing_decodes_ends_the_stream_with_deepgrams_code(server, data: bytes):
    told = await deepgram(server, [data])
    assert told.close[0] == 1008
    assert told.close[1].startswith("DATA-0000: ")
    assert [m["type"] for m in told.messages][-2:] == ["Error", "Metadata"]
    await none_left(server)


async def test_what_nothing_decodes_is_fatal_and_says_what_to_send(server):
    async with client(server.ws, encoding="auto") as c:
        await c.ws.send(b"no audio " * 4000)
        error = (await c.until("error"))["error"]
        assert (error["code"], error["fatal"]) == ("INVALID_AUDIO_FORMAT", True)
        assert "send WAV, FLAC, Ogg" in error["message"]
        await c.until("closed")
        with pytest.raises(ConnectionClosed):
            await c.ws.recv()
    assert c.ws.close_code == 1008


async def test_what_was_heard_before_the_decoder_died_gets_its_final(server, said: np.ndarray):
    (data,) = encode(said, KINDS["ogg-opus"])
    async with client(server.ws, encoding="auto") as one, client(server.ws, encoding="auto") as other:
        await one.ws.send(data[: len(data) // 2])
        await one.send(type="finalize")
        await one.until("final")
        (worker,) = decoders(server)
        await other.ws.send(data[: len(data) // 2])
        worker.kill()
        await one.ws.send(data[len(data) // 2 :])
        assert (await one.until("error"))["error"]["fatal"]
        await one.until("closed")
        await other.ws.send(data[len(data) // 2 :])
        await other.finish()
    assert one.text()
    assert different(other.text(), f"{TRAIN} {WINDOW}") <= 0.35
    await none_left(server)


async def test_nothing_but_an_empty_stream_is_no_error(server):
    assert (await deepgram(server, [])).close == (1000, "")
    assert (await native(server, [], encoding="auto")).messages[-1]["audio_s"] == 0


async def test_a_client_that_vanishes_takes_its_decoder_with_it_when_it_does_not_come_back(start_server, said: np.ndarray):
    (data,) = encode(said, KINDS["webm"])
    server = start_server(resume_s="1")
    async with client(server.ws, encoding="auto") as c:
        await c.ws.send(data[:4000])
        c.ws.transport.abort()
    await none_left(server)


# --- anything at all ------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            '{"type":"finalize"}',
            '{"type":"Finalize"}',
            '{"type":"KeepAlive"}',
            '{"type":"configure","config":{"encoding":"opus"}}',
        ]
    ),
)
FRAMES = st.lists(st.one_of(st.binary(min_size=1, max_size=3000), TEXTS), max_size=5)
HEADS = st.sampled_from([b"", b"OggS\x00\x02", b"fLaC", b"ID3\x04\x00\x00\x00\x00\x00\x05", b"\xff\xfb\x90\x64", b"#!AMR\n"])


@given(
    path=st.sampled_from(["/v1/listen", "/ws/v1/transcribe"]),
    encoding=st.sampled_from(["", "zip", *ENCODINGS]),
    rate=st.sampled_from(["", "8000", "16000", "48000", "7", "x"]),
    channels=st.sampled_from(["", "1", "2", "16", "17"]),
    multichannel=st.booleans(),
    head=HEADS,
    frames=FRAMES,
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered(
    server, path: str, encoding: str, rate: str, channels: str, multichannel: bool, head: bytes, frames: list[str | bytes]
):
    given_ = {"encoding": encoding, "sample_rate": rate, "channels": channels, "multichannel": str(multichannel).lower()}
    url = f"ws://127.0.0.1:{server.port}{path}?{httpx.QueryParams({k: v for k, v in given_.items() if v})}"

    async def play() -> int | None:
        try:
            async with connect(url, compression=None) as ws, asyncio.timeout(60):
                with contextlib.suppress(ConnectionClosed):
                    for frame in [head, *frames] if head else frames:
                        await ws.send(frame)
                    await ws.send('{"type":"CloseStream"}' if path == "/v1/listen" else '{"type":"close_stream"}')
                    while True:
                        json.loads(await ws.recv())
                return ws.close_code
        except InvalidStatus as error:
            json.loads(error.response.body)
            return error.response.status_code

    assert asyncio.run(play()) in {1000, 1008, 400, 415}


def test_the_servers_log_knows_of_no_defect(server):
    """After all of the above."""
    assert "Traceback" not in Path(server.log).read_text()
