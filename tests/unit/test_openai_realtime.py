"""OpenAI's Realtime wire without a server: what is understood, what is told, and that the text only grows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from frontend.audio.format import AudioFormat
from frontend.errors import (
    EngineUnavailable,
    InvalidAudio,
    InvalidConfig,
    SessionTooLong,
    ShuttingDown,
    SlowClient,
    Unauthorized,
    UnknownLanguage,
    UnknownModel,
    VoiceForgeError,
)
from frontend.protocols.base import Audio, Command, Configure, Discard, Finalize, Handshake, Opened, Totals
from frontend.protocols.openai.realtime import PATH, RealtimeAdapter, RealtimeWire
from frontend.speech.events import (
    Event,
    Final,
    Finished,
    Flushed,
    Hypothesis,
    NothingSaid,
    Partial,
    RunAsr,
    SpeechEnded,
    SpeechStarted,
    Timings,
    Word,
)
from frontend.speech.settings import SessionSettings
from tests.unit.deepgram_schema import error_types
from tests.unit.driver import Driver, window_as_text
from tests.unit.realtime_schema import SCHEMA, validate

STAMP = "2026-01-31T12:00:00.123Z"
SESSION = Opened("0e8b1a4e-4a4c-4d6e-9a9a-0123456789ab", "nano", {"max_session_s": 1800.0, "no_data_timeout_s": 10.0}, STAMP)
ADAPTER = RealtimeAdapter()
BETA = {"openai-beta": "realtime=v1"}
TRANSCRIPTION = "conversation.item.input_audio_transcription"
SECOND = 16_000


def handshake(headers: dict[str, str] | None = None, subprotocols: Sequence[str] = (), **query: str) -> Handshake:
    return Handshake(PATH, {name: [value] for name, value in query.items()}, headers or {}, subprotocols)


def wire(headers: dict[str, str] | None = None, **query: str) -> RealtimeWire:
    """An open one."""
    one = ADAPTER.wire(handshake(headers, **{"intent": "transcription", **query}))
    one.opened(SESSION, STAMP)
    return one


def send(one: RealtimeWire, kind: str, **fields: Any) -> Command:
    (command,) = one.parse(json.dumps({"type": kind, **fields}))
    return command


def audio(one: RealtimeWire, data: bytes) -> Command:
    return send(one, "input_audio_buffer.append", audio=base64.b64encode(data).decode())


def update(one: RealtimeWire, **audio_input: Any) -> dict[str, Any]:
    """The session as it is told after an update of its audio input."""
    command = send(one, "session.update", session={"type": "transcription", "audio": {"input": audio_input}})
    assert command == Configure(one.options)
    (told,) = one.configured("nano", STAMP)
    validate(told.body)
    assert told.body["type"] == "session.updated"
    return told.body["session"]


def tell(one: RealtimeWire, *events: Event) -> list[dict[str, Any]]:
    told = [out.body for event in events for out in one.tell(event, 0, STAMP)]
    for body in told:
        validate(body)
    return told


def kinds(told: Sequence[dict[str, Any]]) -> list[str]:
    return [body["type"].removeprefix(f"{TRANSCRIPTION}.").removeprefix("input_audio_buffer.") for body in told]


def refused(one: RealtimeWire, frame: str | bytes) -> dict[str, Any]:
    """The error that the client is told."""
    with pytest.raises(VoiceForgeError) as caught:
        list(one.parse(frame))
    assert not caught.value.fatal
    (told,) = one.failed(caught.value, STAMP)
    validate(told.body)
    return told.body["error"]


def event(**fields: Any) -> str:
    return json.dumps(fields)


def words(text: str, at: int = 0, confidence: float = 0.5) -> tuple[Word, ...]:
    return tuple(Word(w, at + i * 100, at + i * 100 + 100, confidence) for i, w in enumerate(text.split()))


def partial(text: str, n_stable: int, *, segment: int = 1, start: int = 0) -> Partial:
    return Partial(segment, start, start + SECOND, text, 0.5, Timings(), words(text, start), n_stable)


def final(text: str, *, segment: int = 1, start: int = 0, ends: bool = True, requested: bool = False) -> Final:
    return Final(segment, start, start + SECOND, text, 0.5, words(text, start), Timings(), requested, ends)


# --- the handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "subprotocols", "key"),
    [
        ({"authorization": "Bearer sk-1"}, (), "sk-1"),
        ({}, ("realtime", "openai-insecure-api-key.sk-2"), "sk-2"),
        ({}, ("realtime",), None),
    ],
)
def test_where_the_key_is(headers: dict[str, str], subprotocols: tuple[str, ...], key: str | None):
    assert ADAPTER.key(handshake(headers, subprotocols)) == key


def test_realtime_is_selected_and_never_the_key():
    assert ADAPTER.subprotocol(handshake(subprotocols=("openai-insecure-api-key.x", "realtime"))) == "realtime"
    assert ADAPTER.subprotocol(handshake(subprotocols=("openai-insecure-api-key.x",))) is None


@pytest.mark.parametrize("query", [{"intent": "conversation"}, {"call_id": "rtc_1"}])
def test_only_transcription_is_served(query: dict[str, str]):
    with pytest.raises(InvalidConfig, match="intent=transcription"):
        ADAPTER.wire(handshake(**query))


@pytest.mark.parametrize("error", [Unauthorized("no key"), UnknownModel("no model"), ShuttingDown("later")])
def test_refusals_have_openais_body(error: VoiceForgeError):
    told = ADAPTER.refusal(error, "req")
    validate(told.body)
    assert told.headers == {"x-request-id": "req"}


def test_a_wrong_key_and_a_model_that_is_not_there_have_openais_codes():
    assert ADAPTER.refusal(Unauthorized("no"), "r").body["error"]["code"] == "invalid_api_key"
    assert ADAPTER.refusal(UnknownModel("no"), "r").body["error"] == {
        "type": "invalid_request_error", "code": "model_not_found", "message": "no", "param": "model",
    }  # fmt: skip


# --- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "subprotocols", "query", "kind", "flat"),
    [
        ({}, (), {"intent": "transcription"}, "session.created", False),
        ({}, (), {"model": "gpt-4o-transcribe"}, "session.created", False),
        (BETA, (), {"intent": "transcription"}, "transcription_session.created", True),
        (BETA, (), {"model": "gpt-4o-realtime-preview"}, "session.created", True),
        ({}, ("realtime", "openai-beta.realtime-v1"), {"intent": "transcription"}, "transcription_session.created", True),
    ],
)
def test_the_first_event(
    headers: dict[str, str], subprotocols: tuple[str, ...], query: dict[str, str], kind: str, flat: bool
):
    (told,) = ADAPTER.wire(handshake(headers, subprotocols, **query)).opened(SESSION, STAMP)
    validate(told.body)
    assert told.body["type"] == kind
    assert ("input_audio_format" in told.body["session"]) is flat
    assert told.body["session"]["voiceforge"]["limits"] == {"max_session_s": 1800.0}


def test_without_settings_it_is_openais_defaults():
    options = wire().options
    assert options.audio == AudioFormat("linear16", 24_000)
    assert (options.vad_threshold, options.pre_roll_ms, options.endpointing_ms) == (0.5, 300, 500)
    assert (options.language, options.model, options.must_send) == ("multi", None, False)


def test_a_whole_update_is_in_effect():
    one = wire(model="gpt-realtime")
    assert one.options.model == "gpt-realtime"
    session = update(
        one,
        format={"type": "audio/pcm", "rate": 16_000},
        transcription={"model": "gpt-4o-transcribe", "language": "de"},
        turn_detection={"type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 200, "silence_duration_ms": 700},
    )
    options = one.options
    assert options.audio == AudioFormat("linear16", 16_000)
    assert (options.model, options.language) == ("gpt-4o-transcribe", "de")
    assert (options.vad_threshold, options.pre_roll_ms, options.endpointing_ms) == (0.6, 200, 700)
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 16_000}
    assert session["voiceforge"]["not_in_effect"] == []


def test_only_what_is_named_changes():
    one = wire()
    update(one, transcription={"model": "whisper-1", "language": "de"}, turn_detection={"threshold": 0.7})
    update(one, transcription={"language": "fr"}, turn_detection={"silence_duration_ms": 300})
    options = one.options
    assert (options.model, options.language, options.vad_threshold, options.endpointing_ms) == ("whisper-1", "fr", 0.7, 300)
    update(one, turn_detection=None)
    assert one.config.manual
    update(one, turn_detection={"type": "server_vad"})
    assert (one.config.manual, one.options.vad_threshold) == (False, 0.5)


@pytest.mark.parametrize(
    ("given", "encoding", "rate"),
    [("audio/pcmu", "mulaw", 8_000), ("audio/pcma", "alaw", 8_000), ("audio/pcm", "linear16", 24_000)],
)
def test_formats(given: str, encoding: str, rate: int):
    one = wire()
    update(one, format={"type": given})
    assert one.options.audio == AudioFormat(encoding, rate)


@pytest.mark.parametrize(
    ("given", "encoding", "rate"),
    [("pcm16", "linear16", 24_000), ("g711_ulaw", "mulaw", 8_000), ("g711_alaw", "alaw", 8_000)],
)
def test_the_flat_form(given: str, encoding: str, rate: int):
    one = wire(BETA)
    session = {
        "input_audio_format": given,
        "input_audio_transcription": {"model": "gpt-4o-transcribe", "prompt": "x", "language": "en"},
        "turn_detection": {"type": "server_vad", "threshold": 0.4}, "input_audio_noise_reduction": {"type": "near_field"},
        "include": ["item.input_audio_transcription.logprobs"], "modalities": ["text"],
    }  # fmt: skip
    send(one, "transcription_session.update", session=session)
    (told,) = one.configured("nano", STAMP)
    validate(told.body)
    assert told.body["type"] == "transcription_session.updated"
    assert one.options.audio == AudioFormat(encoding, rate)
    assert one.options.vad_threshold == 0.4
    told = told.body["session"]
    assert told["input_audio_format"] == given
    assert told["voiceforge"]["not_in_effect"] == [
        "input_audio_transcription.prompt",
        "input_audio_noise_reduction",
        "modalities",
    ]


def test_the_older_event_chooses_the_older_names():
    one = wire()
    send(one, "transcription_session.update", session={"input_audio_format": "g711_ulaw"})
    assert one.configured("nano", STAMP)[0].body["type"] == "transcription_session.updated"
    told = tell(one, SpeechStarted(0), SpeechEnded(SECOND))
    assert kinds(told)[-1] == "conversation.item.created"


def test_what_is_not_in_effect_is_named():
    session = update(
        wire(),
        transcription={"prompt": "names", "keywords": ["Anna"], "delay": "low", "languages": ["en", "de"], "colour": 1},
        noise_reduction={"type": "far_field"},
        turn_detection={"type": "semantic_vad", "eagerness": "high", "create_response": True},
    )
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert session["voiceforge"]["not_in_effect"] == [
        f"audio.input.{name}"
        for name in (
            "transcription.prompt", "transcription.keywords", "transcription.delay", "transcription.languages",
            "noise_reduction", "turn_detection.type", "turn_detection.eagerness", "turn_detection.create_response",
            "transcription.colour",
        )
    ]  # fmt: skip


def test_one_of_languages_is_the_language():
    one = wire()
    update(one, transcription={"languages": ["de"]})
    assert one.options.language == "de"


@pytest.mark.parametrize(
    ("audio_input", "param"),
    [
        ({"turn_detection": {"type": "server_vad", "threshold": 2}}, "turn_detection.threshold"),
        ({"turn_detection": {"type": "magic"}}, "turn_detection.type"),
        ({"format": {"type": "audio/opus"}}, "format.type"),
        ({"transcription": {"language": "not a language"}}, "transcription.language"),
        ({"transcription": {"model": 5}}, "transcription.model"),
        ({"turn_detection": {"silence_duration_ms": 0}}, "turn_detection.silence_duration_ms"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(audio_input: dict[str, Any], param: str):
    one = wire()
    before = one.config
    told = refused(one, event(type="session.update", event_id="e1", session={"audio": {"input": audio_input}}))
    assert told["event_id"] == "e1"
    assert (told["code"], told["param"]) == ("invalid_value", f"session.audio.input.{param}")
    assert one.config is before


def test_the_flat_form_is_refused_by_its_own_names():
    told = refused(wire(BETA), event(type="transcription_session.update", session={"input_audio_format": "opus"}))
    assert told["param"] == "session.input_audio_format"
    told = refused(wire(BETA), event(type="transcription_session.update", session={"turn_detection": {"threshold": "x"}}))
    assert told["param"] == "session.turn_detection.threshold"
    session = {"input_audio_transcription": {"language": 1}}
    told = refused(wire(BETA), event(type="transcription_session.update", session=session))
    assert told["param"] == "session.input_audio_transcription.language"


def test_a_conversation_and_a_rate_that_cannot_be_are_refused():
    told = refused(wire(), event(type="session.update", session={"type": "realtime"}))
    assert (told["param"], "transcribes only" in told["message"]) == ("session.type", True)
    with pytest.raises(InvalidAudio, match="96000"):
        update(wire(), format={"type": "audio/pcm", "rate": 96_000})


def test_what_cannot_change_after_the_first_audio():
    one = wire()
    audio(one, bytes(4800))
    update(one, transcription={"prompt": "later"}, format={"type": "audio/pcmu"})
    late = {"turn_detection": {"silence_duration_ms": 900}}
    told = refused(one, event(type="session.update", session={"audio": {"input": late}}))
    assert told["param"] == "session.audio.input.turn_detection.silence_duration_ms"
    told = refused(one, event(type="session.update", session={"audio": {"input": {"turn_detection": None}}}))
    assert told["param"] == "session.audio.input.turn_detection"


def test_settings_that_the_server_refuses_are_taken_back():
    one = wire()
    before = one.options
    send(one, "session.update", event_id="e7", session={"audio": {"input": {"transcription": {"model": "gone"}}}})
    one.refused(before)
    assert one.options == before
    (told,) = one.failed(UnknownModel("there is none"), STAMP)
    assert told.body["error"] == {
        "type": "invalid_request_error", "code": "model_not_found", "message": "there is none",
        "param": "session.audio.input.transcription.model", "event_id": "e7",
    }  # fmt: skip
    assert one.failed(UnknownLanguage("no"), STAMP)[0].body["error"]["param"].endswith("language")


# --- the audio buffer ---------------------------------------------------------------------------------------------


def test_audio_is_base64():
    assert audio(wire(), b"\x01\x02") == Audio(b"\x01\x02")


@pytest.mark.parametrize("given", [None, 5, "%%%", "AAA", "AA=A", "ÄÄÄÄ"])
def test_what_is_not_base64_is_refused(given: object):
    told = refused(wire(), event(type="input_audio_buffer.append", audio=given, event_id="e2"))
    assert (told["param"], told["event_id"]) == ("audio", "e2")


@pytest.mark.parametrize("ms", [0, 99])
def test_a_commit_of_nothing_is_refused_as_openai_does(ms: int):
    one = wire()
    audio(one, bytes(48 * ms))
    told = refused(one, event(type="input_audio_buffer.commit"))
    assert told["code"] == "input_audio_buffer_commit_empty"
    assert f"{ms}.00ms" in told["message"]


@pytest.mark.parametrize(("given", "n_bytes"), [("audio/pcm", 4800), ("audio/pcmu", 800)])
def test_a_commit_needs_100_ms_since_the_last_one_or_the_clear(given: str, n_bytes: int):
    one = wire()
    update(one, format={"type": given})
    audio(one, bytes(n_bytes))
    assert send(one, "input_audio_buffer.commit") == Finalize()
    assert refused(one, event(type="input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"
    audio(one, bytes(n_bytes))
    assert send(one, "input_audio_buffer.clear") == Discard()
    assert refused(one, event(type="input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


def test_what_the_server_has_committed_is_no_longer_in_the_buffer():
    one = wire()
    audio(one, bytes(48_000))
    tell(one, SpeechStarted(0), SpeechEnded(SECOND - 100))
    assert refused(one, event(type="input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


@pytest.mark.parametrize("kind", ["response.create", "conversation.item.create", "output_audio_buffer.clear"])
def test_conversations_are_said_not_to_be_here(kind: str):
    told = refused(wire(), event(type=kind, event_id="e3"))
    assert (told["code"], told["event_id"]) == ("unsupported_event", "e3")
    assert "transcribes only" in told["message"]


@pytest.mark.parametrize(
    "frame", ["", "[]", "null", "{}", '{"type": 5}', '{"type": "sing"}', b"\xff", "[" * 100_000, '{"type": NaN}',
              '"\\ud800"', '{"type": "\\ud800", "event_id": "\\udfff"}']
)  # fmt: skip
def test_what_is_no_event_is_told_and_the_stream_goes_on(frame: str | bytes):
    one = wire()
    assert refused(one, frame)["type"] == "invalid_request_error"
    assert audio(one, bytes(2)) == Audio(bytes(2))


def test_an_error_that_ends_the_session_is_of_no_event():
    one = wire()
    send(one, "input_audio_buffer.clear", event_id="e1")
    assert one.failed(EngineUnavailable("away"), STAMP)[0].body["error"]["event_id"] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["type", "audio", "input", "format", "rate", "transcription", "model", "language", "languages", "turn_detection",
     "threshold", "silence_duration_ms", "noise_reduction", "strength", "include",
     "input_audio_format", "input_audio_transcription"]
)  # fmt: skip
SETTINGS = st.recursive(
    JSON | st.sampled_from(["transcription", "server_vad", "semantic_vad", "audio/pcm", "pcm16", "en", 24_000]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5) | st.lists(inner, max_size=2),
    max_leaves=20,
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["session.update", "transcription_session.update", "input_audio_buffer.append"]) | JSON},
    optional={"session": SETTINGS, "audio": JSON, "event_id": JSON},
)


@given(st.lists(st.text() | st.binary() | EVENTS.map(json.dumps) | JSON.map(json.dumps), max_size=5))
def test_whatever_is_sent_is_understood_or_told_to_be_wrong(frames: list[str | bytes]):
    one = wire()
    for frame in frames:
        try:
            for command in one.parse(frame):
                if isinstance(command, Configure):
                    validate(one.configured("nano", STAMP)[0].body)
        except VoiceForgeError as error:
            validate(one.failed(error, STAMP)[0].body)
            one.refused(one.options)


# --- turns --------------------------------------------------------------------------------------------------------


def test_an_utterance_from_its_first_word_to_its_transcript():
    told = tell(
        wire(),
        SpeechStarted(SECOND),
        partial("Good", 0, start=SECOND),
        partial("Good morning Anna", 2, start=SECOND),
        SpeechEnded(2 * SECOND),
        final("Good morning, Anna.", start=SECOND),
    )
    assert kinds(told) == [
        "speech_started", "delta", "speech_stopped", "committed", "conversation.item.added", "conversation.item.done",
        "delta", "completed",
    ]  # fmt: skip
    assert told[0]["audio_start_ms"] == 700
    assert told[2]["audio_end_ms"] == 2000
    assert [body["delta"] for body in told if "delta" in body] == ["Good morning", " Anna."]
    assert told[-1]["transcript"] == "Good morning Anna."
    assert told[-1]["usage"] == {"type": "duration", "seconds": 1.0}
    assert len({body["item_id"] for body in told if "item_id" in body}) == 1
    assert len({body["event_id"] for body in told}) == len(told)


def test_items_name_the_one_before():
    told = tell(wire(), *(e for i in range(3) for e in (SpeechStarted(i), SpeechEnded(i), NothingSaid(i))))
    committed = [body for body in told if body["type"] == "input_audio_buffer.committed"]
    assert [body["previous_item_id"] for body in committed] == [None, *(body["item_id"] for body in committed[:2])]
    added = [body for body in told if body["type"] == "conversation.item.added"]
    assert [body["item"]["id"] for body in added] == [body["item_id"] for body in committed]


def test_a_long_utterance_is_one_item_of_several_finals():
    told = tell(
        wire(), SpeechStarted(0), final("One two", ends=False), final("three", segment=2, start=SECOND, ends=False),
        SpeechEnded(3 * SECOND), final("four.", segment=3, start=2 * SECOND),
    )  # fmt: skip
    assert [body["delta"] for body in told if "delta" in body] == ["One two", " three", " four."]
    assert told[-1]["transcript"] == "One two three four."
    assert told[-1]["usage"]["seconds"] == 3.0


def test_no_word_is_told_twice_or_taken_back():
    one = wire()
    told = tell(
        one, SpeechStarted(0), partial("A b c", 2), partial("A b d", 1), partial("A b d e", 3), SpeechEnded(SECOND),
        final("A b x y"),
    )  # fmt: skip
    assert [body["delta"] for body in told if "delta" in body] == ["A b", " d", " y"]


def test_a_next_utterance_may_begin_before_the_transcript_of_the_last():
    told = tell(
        wire(), SpeechStarted(0), SpeechEnded(SECOND), SpeechStarted(2 * SECOND), final("First."),
        partial("Second one", 1, segment=2, start=2 * SECOND), SpeechEnded(3 * SECOND),
        final("Second one.", segment=2, start=2 * SECOND),
    )  # fmt: skip
    texts = {body["item_id"]: body["transcript"] for body in told if "transcript" in body}
    assert list(texts.values()) == ["First.", "Second one."]


def test_an_utterance_without_words_is_completed_as_well():
    told = tell(wire(), SpeechStarted(0), SpeechEnded(SECOND), NothingSaid(SECOND))
    assert (kinds(told)[-1], told[-1]["transcript"]) == ("completed", "")


def test_words_of_scripts_without_spaces_get_none():
    pieces = (Word("今日", 0, 1, 0.5), Word("は", 1, 2, 0.5))
    end = Final(2, SECOND, 2 * SECOND, "晴れ", 0.5, (Word("晴れ", 2, 3, 0.5),), Timings())
    told = tell(
        wire(), SpeechStarted(0), Partial(1, 0, 9, "今日は", 0.5, Timings(), pieces, 2),
        Final(1, 0, SECOND, "今日は", 0.5, pieces, Timings(), ends_utterance=False), SpeechEnded(SECOND), end,
    )  # fmt: skip
    assert told[-1]["transcript"] == "今日は晴れ"


def test_log_probabilities_are_told_when_they_are_included():
    one = wire()
    send(one, "session.update", session={"include": ["item.input_audio_transcription.logprobs", "colour"]})
    assert one.configured("nano", STAMP)[0].body["session"]["voiceforge"]["not_in_effect"] == ["include.colour"]
    told = tell(one, SpeechStarted(0), partial("Good day", 1), SpeechEnded(SECOND), final("Good day"))
    assert [p["token"] for p in told[-1]["logprobs"]] == ["Good", " day"]
    assert told[-1]["logprobs"] == [p for body in told if "delta" in body for p in body["logprobs"]]
    assert told[-1]["logprobs"][0]["logprob"] == pytest.approx(-0.693, abs=0.001)
    assert bytes(told[-1]["logprobs"][1]["bytes"]) == b" day"


def test_a_commit_during_server_turns_ends_the_utterance_or_makes_an_empty_item():
    told = tell(
        wire(), SpeechStarted(0), SpeechEnded(SECOND), Flushed(SECOND, discarded=False, ended=True),
        final("One", requested=True), Flushed(SECOND, discarded=False, ended=False), SpeechStarted(SECOND),
        SpeechEnded(2 * SECOND), final("", segment=2, start=SECOND, requested=True), final("Two", segment=3, start=SECOND),
    )  # fmt: skip
    assert [body["transcript"] for body in told if "transcript" in body] == ["One", "", "Two"]


def manual() -> RealtimeWire:
    one = wire()
    assert update(one, turn_detection=None)["audio"]["input"]["turn_detection"] is None
    return one


def test_without_server_turns_an_item_is_what_was_sent_up_to_a_commit():
    one = manual()
    told = tell(
        one, SpeechStarted(0), partial("One two", 1), SpeechEnded(SECOND), final("One two."),
        SpeechStarted(2 * SECOND), Flushed(3 * SECOND, discarded=False, ended=True),
        final("Three", segment=2, start=2 * SECOND, ends=False), final("four", segment=3, start=2 * SECOND, requested=True),
        Flushed(3 * SECOND, discarded=False, ended=False), final("", segment=4, start=3 * SECOND, requested=True),
    )  # fmt: skip
    assert not {"speech_started", "speech_stopped"} & set(kinds(told))
    assert [body["transcript"] for body in told if "transcript" in body] == ["One two. Three four", ""]
    assert [body["delta"] for body in told if "delta" in body] == ["One", " two.", " Three", " four"]


@pytest.mark.parametrize("make", [wire, manual])
def test_what_was_cleared_is_not_in_the_next_item(make: Callable[[], RealtimeWire]):
    told = tell(
        make(), SpeechStarted(0), partial("Never mind", 2), Flushed(SECOND, discarded=True, ended=False),
        final("Never mind that", ends=False), SpeechStarted(SECOND), SpeechEnded(2 * SECOND),
        Flushed(2 * SECOND, discarded=False, ended=True), final("Late.", segment=1, ends=False),
        final("This.", segment=2, start=SECOND, requested=True),
    )  # fmt: skip
    assert "cleared" in kinds(told)
    assert [body["transcript"] for body in told if "transcript" in body] == ["This."]


def test_what_was_committed_before_a_clear_gets_its_transcript():
    told = tell(
        manual(), Flushed(SECOND, discarded=False, ended=True), Flushed(SECOND, discarded=True, ended=False),
        final("This.", requested=True),
    )  # fmt: skip
    assert told[-1]["transcript"] == "This."


def test_at_the_end_what_was_heard_is_committed_and_what_has_no_final_has_failed():
    one = manual()
    told = tell(one, final("Before the end.", requested=True), Finished())[1:]
    assert one.closed(Totals(), ShuttingDown("soon"), STAMP) == []
    assert kinds(told) == ["committed", "conversation.item.added", "conversation.item.done", "completed"]
    one = wire()
    tell(one, SpeechStarted(0), SpeechEnded(SECOND))
    (told,) = [out.body for out in one.closed(Totals(), EngineUnavailable("away"), STAMP)]
    validate(told)
    assert told["type"] == f"{TRANSCRIPTION}.failed"
    assert told["error"]["code"] == "engine_unavailable"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 1000),
        (ShuttingDown("x"), 1012),
        (EngineUnavailable("x"), 1013),
        (SessionTooLong("x"), 1001),
        (SlowClient("x" * 200), 1008),
    ],
)
def test_close_codes(error: VoiceForgeError | None, code: int):
    told, reason = wire().close_frame(error)
    assert told == code
    assert len(reason.encode()) <= 123


@pytest.mark.parametrize("kind", error_types(), ids=lambda kind: kind.__name__)
def test_every_error_is_told_as_the_schema_says(kind: type[VoiceForgeError]):
    if kind.__module__ == "frontend.errors":
        validate(wire().failed(kind("what is wrong; what to do"), STAMP)[0].body)


def test_the_schema_itself_is_valid():
    Draft202012Validator.check_schema(SCHEMA)


# --- properties ---------------------------------------------------------------------------------------------------


def check_items(told: Sequence[dict[str, Any]]) -> None:
    """Deltas of an item are its transcript; every committed item is completed once, after it was committed, in order."""
    heard: dict[str, str] = {}
    committed: list[str] = []
    completed: list[str] = []
    for body in told:
        match body["type"].removeprefix(f"{TRANSCRIPTION}."):
            case "delta":
                assert body["item_id"] not in completed
                heard[body["item_id"]] = heard.get(body["item_id"], "") + body["delta"]
            case "input_audio_buffer.committed":
                assert body["previous_item_id"] == (committed[-1] if committed else None)
                committed.append(body["item_id"])
            case "completed":
                assert body["transcript"] == heard.get(body["item_id"], "")
                completed.append(body["item_id"])
    assert completed == committed[: len(completed)]


TEXT = st.text(st.sampled_from("ab ,今日é"), max_size=12)
WORDS = st.lists(st.builds(Word, TEXT, st.just(0), st.just(1), st.floats(0, 1)), max_size=4).map(tuple)
SEGMENT, AT = st.integers(1, 4), st.integers(0, 5)
ANY_PARTIAL = st.builds(Partial, SEGMENT, AT, AT, TEXT, st.just(0.5), st.just(Timings()), WORDS, st.integers(0, 4))
ANY_FINAL = st.builds(
    lambda segment, at, text, words, *ends: Final(segment, at, at + 1, text, 0.5, words, Timings(), *ends),
    SEGMENT, AT, TEXT, WORDS, st.booleans(), st.booleans(),
)  # fmt: skip
ANY = st.one_of(
    ANY_PARTIAL, ANY_FINAL, st.builds(SpeechStarted, AT), st.builds(SpeechEnded, AT), st.builds(NothingSaid, AT),
    st.builds(Flushed, AT, st.booleans(), st.booleans()), st.just(Finished()),
)  # fmt: skip


@given(st.lists(ANY, max_size=25), st.booleans(), st.booleans())
def test_whatever_comes_deltas_are_the_transcript(events: list[Event], is_manual: bool, logprobs: bool):
    one = manual() if is_manual else wire()
    if logprobs:
        send(one, "session.update", session={"include": ["item.input_audio_transcription.logprobs"]})
        one.configured("nano", STAMP)
    check_items(tell(one, *events))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["audio", "audio", "audio", "finalize", "discard", "answer_vad", "answer_asr"]), st.integers(1, 60)
    ),
    max_size=30,
)
RUNS = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 1.0, 1.0, 0.2]), st.integers(1, 60)), max_size=12)


def hears(silent: frozenset[int]) -> Callable[[RunAsr], Hypothesis]:
    """As windows, but nothing in windows that begin in a second of `silent`."""
    return lambda request: Hypothesis("") if request.start // SECOND in silent else window_as_text(request)


@given(RUNS, STEPS, st.booleans(), st.booleans(), st.frozensets(st.integers(0, 20), max_size=6))
def test_in_real_sessions_every_item_is_completed_and_every_commit_and_clear_answered(
    runs: list[tuple[float, int]], steps: list[tuple[str, int]], is_manual: bool, at_once: bool, silent: frozenset[int]
):
    script = [p for p, n in runs for _ in range(n)]
    settings = SessionSettings(max_segment=6 * SECOND, split_after=2 * SECOND)
    d = Driver(script, settings, at_once=at_once, answer=hears(silent))
    one, told, n_commits, n_clears = (manual() if is_manual else wire()), [], 0, 0
    for step, n in steps:
        if step == "audio":
            d.audio(n * 500)
        elif step == "discard":
            d._carry_out(d.core.discard())
            n_clears += 1
        else:
            n_commits += step == "finalize"
            getattr(d, step)()
        told += tell(one, *d.events)
        d.events.clear()
    d.close()
    told += tell(one, *d.events)
    assert one.closed(Totals(), ShuttingDown("soon"), STAMP) == []
    check_items(told)
    names = kinds(told)
    assert names.count("committed") == names.count("completed")
    assert names.count("cleared") == n_clears
    if is_manual:
        assert n_commits <= names.count("committed") <= n_commits + 1
    else:
        assert names.count("committed") >= names.count("speech_stopped")
