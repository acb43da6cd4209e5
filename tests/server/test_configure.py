"""Settings by message: before the first audio all of them, afterwards those of the audio format."""

from __future__ import annotations

import numpy as np

from tests.conftest import client, silence
from tests.server.tools import check_story

TEXT = "We need seven eggs."


async def test_settings_can_be_changed_before_the_first_audio(server, speak):
    audio = speak(TEXT).audio
    async with client(server.ws, sample_rate=8000, interim_results=True) as c:
        assert c.messages[0]["config"]["sample_rate"] == 8000
        changes = {"encoding": "float32", "sample_rate": 16000, "interim_results": False, "endpointing_ms": 300}
        await c.send(type="configure", config=changes)
        configured = await c.until("configured")
        assert {name: configured["config"][name] for name in changes} == changes
        assert configured["config"]["vad_enabled"], "what is not named stays as it was"
        await c.send(type="configure", config={"custom_vocabulary": ["eggs"]})
        assert (await c.until("configured"))["not_in_effect"] == ["custom_vocabulary"]
        await c.ws.send((audio.astype("<f4") / 32768).tobytes())
        await c.finish()
    check_story(c.messages)
    assert c.text()
    assert not [m for m in c.messages if m["type"] == "interim"]
    assert abs(c.messages[-1]["audio_s"] - len(audio) / 16000) < 0.01


async def test_without_any_configure_the_defaults_hold_from_the_first_binary_frame(server, speak):
    async with client(server.ws) as c:
        await c.audio(speak(TEXT).audio)
        await c.finish()
    check_story(c.messages)
    assert c.messages[0]["config"] == {
        "encoding": "linear16", "sample_rate": 16000, "channels": 1, "language": "en", "model": "nano",
        "interim_results": True, "vad_enabled": True, "endpointing_ms": 500, "custom_vocabulary": [],
    }  # fmt: skip
    assert c.text()


async def test_the_audio_format_can_change_in_the_middle_of_a_stream(server, speak):
    audio = speak(TEXT).audio
    async with client(server.ws) as c:
        await c.audio(np.concatenate([audio, silence(1)]))
        await c.send(type="configure", config={"encoding": "float32"})
        assert (await c.until("configured"))["config"]["encoding"] == "float32"
        await c.ws.send((audio.astype("<f4") / 32768).tobytes())
        await c.finish()
    check_story(c.messages)
    before, after = c.finals()
    assert before["transcript"] == after["transcript"] != ""
    assert abs(c.messages[-1]["audio_s"] - (2 * len(audio) / 16000 + 1)) < 0.01


async def test_language_can_not_change_after_audio_and_the_stream_goes_on(server, speak):
    audio = speak(TEXT).audio
    async with client(server.ws) as c:
        await c.audio(silence(0.5))
        for config in ({"language": "de"}, {"model": "nano", "vad_enabled": False}, {"endpointing_ms": 100}):
            await c.send(type="configure", config=config)
            assert (await c.until("error"))["error"]["code"] == "INVALID_CONFIG"
        await c.send(type="configure", config={"encoding": "float32"})
        config = (await c.until("configured"))["config"]
        assert (config["language"], config["vad_enabled"], config["endpointing_ms"]) == ("en", True, 500)
        await c.ws.send((audio.astype("<f4") / 32768).tobytes())
        await c.finish()
    check_story(c.messages)
    assert c.text()


async def test_a_refused_configure_changes_nothing_of_what_it_named(server, speak):
    async with client(server.ws) as c:
        await c.send(type="configure", config={"interim_results": False, "sample_rate": 4000})
        error = (await c.until("error"))["error"]
        assert (error["code"], error["fatal"]) == ("INVALID_AUDIO_FORMAT", False)
        await c.send(type="configure", config={})
        config = (await c.until("configured"))["config"]
        assert (config["interim_results"], config["sample_rate"]) == (True, 16000)
        await c.audio(speak(TEXT).audio)
        await c.finish()
    check_story(c.messages)
    assert c.text()


async def test_segments_keep_their_numbers_when_settings_change_after_a_finalize(server, speak):
    async with client(server.ws) as c:
        await c.send(type="finalize")
        await c.send(type="configure", config={"endpointing_ms": 300})
        await c.audio(speak(TEXT).audio)
        await c.finish()
    check_story(c.messages)
    assert len(c.finals()) == 2
