"""What a session looks like on the wire: every message by the schema, in a sensible order, whatever the audio's format."""

from __future__ import annotations

import base64
import json

import jsonschema
import numpy as np
import pytest
import soxr

from tests.conftest import ROOT, Client, Server, client, silence

SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "frontend/protocols/native.schema.json").read_text()))
TEXT = "The meeting is on Tuesday, the third of May."


async def _transcript(server: Server, data: bytes, chunk: int = 4000, **query: object) -> Client:
    async with client(server.ws, **query) as c:
        for i in range(0, len(data), chunk):
            await c.ws.send(data[i : i + chunk])
        await c.finish()
        return c


async def test_a_live_session_tells_its_story_in_order_and_by_the_schema(server, speak):
    said = speak(TEXT)
    async with client(server.ws, custom_vocabulary="VoiceForge,Triton") as c:
        assert c.messages[0]["not_in_effect"] == ["custom_vocabulary"]
        assert c.messages[0]["config"]["custom_vocabulary"] == ["VoiceForge", "Triton"]
        await c.send(type="keep_alive")
        await c.audio(np.concatenate([silence(0.6), said.audio, silence(1.0)]), realtime=True)
        await c.send(type="finalize")
        await c.ws.send("nonsense")
        await c.finish()
    for message in c.messages:
        SCHEMA.validate(message)
    kinds = [m["type"] for m in c.messages]
    assert kinds[0] == "ready"
    assert kinds[-1] == "closed"
    assert kinds.index("speech_started") < kinds.index("interim") < kinds.index("speech_ended") < kinds.index("final")
    settled, flushed = c.finals()
    assert (settled["from_finalize"], flushed["from_finalize"], flushed["transcript"]) == (False, True, "")
    started = next(m for m in c.messages if m["type"] == "speech_started")["at"]
    assert abs(started - (0.6 + said.words[0][1])) < 0.25
    ended = next(m for m in c.messages if m["type"] == "speech_ended")["at"]
    assert abs(ended - (0.6 + said.words[-1][2])) < 0.35
    assert settled["start"] <= started
    assert settled["start"] + settled["duration"] >= ended


@pytest.mark.parametrize("broken", [{"type": "final"}, {"type": "interim", "transcript": 3}, {"type": "made_up"}])
def test_the_schema_notices_a_message_that_is_wrong(broken: dict):
    assert not SCHEMA.is_valid(broken)


async def test_the_last_words_are_not_lost_when_the_stream_is_closed_at_once(server, speak):
    c = await _transcript(server, speak(TEXT).audio.tobytes())
    assert c.finals()[-1]["from_finalize"]
    assert c.text()


async def test_finalize_is_always_answered_even_if_nothing_was_said(server):
    async with client(server.ws) as c:
        await c.send(type="finalize")
        await c.audio(silence(1))
        await c.send(type="finalize")
        await c.finish()
    assert [(f["transcript"], f["from_finalize"]) for f in c.finals()] == [("", True), ("", True)]


async def test_interims_can_be_switched_off(server, speak):
    c = await _transcript(server, speak(TEXT).audio.tobytes(), interim_results=False)
    assert not [m for m in c.messages if m["type"] == "interim"]
    assert c.text()


async def test_without_vad_everything_is_decoded(server, speak):
    audio = speak(TEXT).audio
    c = await _transcript(server, audio.tobytes(), vad_enabled=False)
    (final,) = c.finals()
    assert (final["start"], final["duration"]) == (0, round(len(audio) / 16000, 3))


async def test_audio_as_base64_is_the_same_audio(server, speak):
    audio = speak(TEXT).audio.tobytes()
    binary = await _transcript(server, audio, interim_results=False)
    async with client(server.ws, interim_results=False) as c:
        for i in range(0, len(audio), 5001):
            await c.send(type="audio", data=base64.b64encode(audio[i : i + 5001]).decode())
        await c.finish()
    assert [f["words"] for f in c.finals()] == [f["words"] for f in binary.finals()]
    assert c.text()


def _float(audio: np.ndarray) -> np.ndarray:
    return audio.astype(np.float32) / 32768


async def test_the_same_samples_in_other_encodings_give_the_same_text(server, speak):
    audio = speak(TEXT).audio
    expected = (await _transcript(server, audio.tobytes())).text()
    stereo = np.stack([_float(audio), _float(audio)], axis=1)
    assert (await _transcript(server, _float(audio).tobytes(), 3333, encoding="float32")).text() == expected
    assert (await _transcript(server, stereo.tobytes(), 3333, encoding="float32", channels=2)).text() == expected


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
async def test_other_rates_give_nearly_the_same_text_at_the_same_times(server, speak, rate: int):
    audio = speak(TEXT).audio
    expected = await _transcript(server, audio.tobytes())
    resampled = np.clip(np.rint(soxr.resample(_float(audio), 16000, rate) * 32768), -32768, 32767).astype("<i2")
    got = await _transcript(server, resampled.tobytes(), 5001, sample_rate=rate)
    same = sum(a == b for a, b in zip(got.text().split(), expected.text().split(), strict=False))
    assert same >= 0.6 * len(expected.text().split())
    assert abs(got.messages[-1]["audio_s"] - expected.messages[-1]["audio_s"]) < 0.01


@pytest.mark.parametrize(("name", "query"), [("speech.ulaw", "mulaw"), ("speech.alaw", "alaw"), ("speech.raw", "linear16")])
async def test_telephone_recordings_give_words(server, shared_speech, name: str, query: str):
    data = (shared_speech / "formats" / "telephone" / name).read_bytes()
    c = await _transcript(server, data, 160, encoding=query, sample_rate=8000)
    assert c.text()
    n_bytes = 2 if query == "linear16" else 1
    assert abs(c.messages[-1]["audio_s"] - len(data) / n_bytes / 8000) < 0.02
