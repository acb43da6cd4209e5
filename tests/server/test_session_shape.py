"""What a session looks like on the wire: every message by the schema, in a sensible order, with nothing left out."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.conftest import client, silence
from tests.server.tools import SCHEMA, check_story, hear, seconds

TEXT = "The meeting is on Tuesday, the third of May."
LONG = """the old woman walked through the garden and the dog followed her slowly and the children were singing in the
house while the train to London was leaving the station and nobody in the village knew that the king had left the castle
in the morning with seven horses and a red bottle under the table"""


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
    check_story(c.messages)
    kinds = [m["type"] for m in c.messages]
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
    said = speak(TEXT)
    c = await hear(server, said.audio)
    assert c.finals()[-1]["from_finalize"]
    assert c.finals()[0]["start"] <= said.words[0][1]
    assert c.finals()[-1]["start"] + c.finals()[-1]["duration"] >= said.words[-1][2] - 0.05
    assert len(c.text().split()) >= len(TEXT.split()) // 2


async def test_finalize_settles_what_was_said_and_the_stream_goes_on(server, speak):
    first, second = speak("Please close the door."), speak("It is raining in Dublin.")
    async with client(server.ws) as c:
        await c.audio(first.audio)
        await c.send(type="finalize")
        settled = await c.until("final")
        assert settled["from_finalize"]
        assert settled["start"] + settled["duration"] >= first.words[-1][2] - 0.05
        await c.audio(np.concatenate([second.audio, silence(1.0)]))
        following = await c.until("final")
        assert not following["from_finalize"]
        assert following["start"] >= settled["start"] + settled["duration"]
        await c.finish()
    check_story(c.messages)
    assert [f["transcript"].split()[0] for f in c.finals()] == ["Please", "It"]


async def test_finalize_is_always_answered_even_if_nothing_was_said(server):
    async with client(server.ws) as c:
        await c.send(type="finalize")
        await c.audio(silence(1))
        await c.send(type="finalize")
        await c.send(type="finalize")
        await c.finish()
    check_story(c.messages)
    assert [(f["transcript"], f["from_finalize"]) for f in c.finals()] == [("", True)] * 3


async def test_interims_can_be_switched_off(server, speak):
    c = await hear(server, speak(TEXT).audio, interim_results=False)
    assert not [m for m in c.messages if m["type"] == "interim"]
    assert c.text()


async def test_without_vad_everything_is_decoded(server, speak):
    audio = speak(TEXT).audio
    c = await hear(server, audio, vad_enabled=False)
    (final,) = c.finals()
    assert (final["start"], final["duration"]) == (0, seconds(audio))


@pytest.mark.parametrize("vad_enabled", [True, False])
async def test_speech_without_a_pause_is_cut_into_windows_without_a_gap(server, speak, vad_enabled: bool):
    said = speak(" ".join(LONG.split() * 2))
    c = await hear(server, said.audio, 32_000, interim_results=False, vad_enabled=vad_enabled)
    windows = [(f["start"], f["start"] + f["duration"]) for f in c.finals()]
    longest = c.messages[0]["limits"]["max_segment_s"]
    assert len(windows) >= said.words[-1][2] // longest
    assert all(end - start <= longest + 0.001 for start, end in windows)
    for (_, end), (start, _) in zip(windows, windows[1:], strict=False):
        spoken = [w for w, begin, stop in said.words if begin < start - 0.001 and stop > end + 0.001]
        assert spoken == [], f"nobody heard {spoken} between {end} and {start}"
    assert windows[0][0] <= said.words[0][1]
    assert windows[-1][1] >= said.words[-1][2] - 0.05
    assert all(f["words"] for f in c.finals() if f["duration"] > 1)


async def test_the_silence_that_ends_an_utterance_can_be_set(server, speak):
    audio = np.concatenate([speak("Good morning, Peter.").audio, silence(0.9), speak("Good night, Alice.").audio, silence(0.9)])
    assert len((await hear(server, audio, endpointing_ms=300)).finals()) == 2
    assert len((await hear(server, audio, endpointing_ms=5000)).finals()) == 1


async def test_audio_as_base64_is_the_same_audio(server, speak):
    audio = speak(TEXT).audio.tobytes()
    binary = await hear(server, audio, interim_results=False)
    async with client(server.ws, interim_results=False) as c:
        for i in range(0, len(audio), 5001):
            await c.send(type="audio", data=base64.b64encode(audio[i : i + 5001]).decode())
        await c.finish()
    check_story(c.messages)
    assert [f["words"] for f in c.finals()] == [f["words"] for f in binary.finals()]
    assert c.text()
