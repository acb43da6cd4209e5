"""OpenAI's Realtime wire without a server: what is understood, what is told, and that the text only grows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.format import AudioFormat
from frontend.errors import (
    EngineUnavailable,
    InvalidAudio,
    InvalidConfig,
    ShuttingDown,
    Unauthorized,
    UnknownLanguage,
    UnknownModel,
    VoiceForgeError,
)
from frontend.protocols.base import Audio, Configure, Discard, Finalize
from frontend.speech.events import (
    SpeechEnded,
    SpeechStarted,
)
from tests.unit.realtime_schema import validate
from tests.unit.realtime_wire import (
    ADAPTER,
    BETA,
    SECOND,
    SESSION,
    STAMP,
    audio,
    event,
    handshake,
    kinds,
    refused,
    send,
    tell,
    update,
    wire,
)

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
