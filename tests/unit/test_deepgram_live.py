"""Deepgram's WebSocket messages, both ways: every one that is sent is what the schema says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import (
    EngineUnavailable,
    InvalidAudio,
    InvalidMessage,
    NoData,
    SessionDiffers,
    ShuttingDown,
    TooManyConnections,
    Unauthorized,
    UnknownModel,
    VoiceForgeError,
)
from frontend.protocols.base import (
    Audio,
    CloseStream,
    Configure,
    Finalize,
    Handshake,
    KeepAlive,
    Opened,
    Reply,
    Resuming,
    Totals,
)
from frontend.protocols.deepgram.live import DeepgramAdapter, DeepgramWire
from frontend.speech.events import Final, NothingSaid, Partial, SpeechEnded, SpeechStarted, Timings, UtteranceEnded, Word
from tests.unit.deepgram_schema import error_types, validate
from tests.unit.test_native_protocol import ANY_TEXT, JSON
from tests.unit.test_native_schema import FINALS, PARTIALS, SAMPLES

STAMP = "2026-01-31T12:00:00.000Z"
SESSION = Opened("12345678-1234-5678-1234-567812345678", "nano", {}, STAMP)
WORDS = (Word("Good", 16_000, 20_000, 0.9), Word("morning,", 20_000, 28_000, 0.8), Word("Anna.", 30_000, 36_000, 0.7))
FINAL = Final(1, 12_000, 40_000, "Good morning, Anna.", 0.8, WORDS, Timings())


def handshake(*subprotocols: str, headers: dict[str, str] | None = None, **query: str | list[str]) -> Handshake:
    pairs = {k: v if isinstance(v, list) else [v] for k, v in query.items()}
    return Handshake("/v1/listen", pairs, headers or {}, subprotocols)


def wire(**query: str | list[str]) -> DeepgramWire:
    one = DeepgramAdapter().wire(handshake(**({"encoding": "linear16", "sample_rate": "16000"} | query)))
    assert one.opened(SESSION, STAMP) == []
    return one


def parse(one: DeepgramWire, message: dict[str, Any] | str | bytes) -> Any:
    (command,) = one.parse(json.dumps(message) if isinstance(message, dict) else message)
    return command


def tell(one: DeepgramWire, event: Any, channel: int = 0) -> dict[str, Any]:
    (outgoing,) = one.tell(event, channel, STAMP)
    validate(outgoing.body)
    return outgoing.body


def alternative(message: dict[str, Any]) -> dict[str, Any]:
    return message["channel"]["alternatives"][0]


# --- the handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Token KEY", "token KEY", "Bearer KEY", "bearer KEY"])
def test_the_key_comes_in_the_header(header: str):
    assert DeepgramAdapter().key(handshake(headers={"authorization": header})) == "KEY"


@pytest.mark.parametrize("offered", [("token", "KEY"), ("bearer", "KEY"), ("token", "KEY", "x-deepgram-session-id", "uuid")])
def test_the_key_comes_behind_the_subprotocol_that_is_echoed(offered: tuple[str, ...]):
    adapter = DeepgramAdapter()
    assert adapter.key(handshake(*offered)) == "KEY"
    assert adapter.subprotocol(handshake(*offered)) == offered[0]


def test_no_key_and_no_subprotocol_are_none():
    adapter = DeepgramAdapter()
    assert adapter.key(handshake()) is None
    assert adapter.key(handshake("token")) is None
    assert adapter.subprotocol(handshake("x-deepgram-session-id", "uuid")) is None


@pytest.mark.parametrize("kind", error_types(), ids=lambda kind: kind.__name__)
def test_every_refusal_is_what_the_schema_says_and_names_the_request(kind: type[VoiceForgeError]):
    refusal = DeepgramAdapter().refusal(kind("what is wrong; what to do"), SESSION.session_id)
    validate(refusal.body)
    assert refusal.body["err_msg"].endswith("what is wrong; what to do")
    assert refusal.headers == {"dg-request-id": SESSION.session_id}


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (Unauthorized, 401, "INVALID_AUTH"),
        (UnknownModel, 400, "Bad Request"),
        (TooManyConnections, 429, "TOO_MANY_REQUESTS"),
    ],
)
def test_refusals_have_deepgrams_status_and_code(kind: type[VoiceForgeError], status: int, code: str):
    refusal = DeepgramAdapter().refusal(kind("why"), SESSION.session_id)
    assert (refusal.status, refusal.body["err_code"]) == (status, code)


# --- from the client ----------------------------------------------------------------------------------------------


def test_commands():
    one = wire(encoding="linear16", sample_rate="16000", channels="2", multichannel="true")
    assert parse(one, b"\1\2") == Audio(b"\1\2")
    assert parse(one, b"") == CloseStream()
    assert parse(one, {"type": "KeepAlive"}) == KeepAlive()
    assert parse(one, {"type": "Finalize"}) == Finalize(None)
    assert parse(one, {"type": "Finalize", "channel": 1}) == Finalize(1)
    assert parse(one, {"type": "CloseStream"}) == CloseStream()


@given(st.text(st.characters(codec="utf-8"), max_size=600) | JSON.map(json.dumps))
def test_any_text_gives_a_command_or_a_clear_error(text: str):
    one = wire()
    error: VoiceForgeError
    try:
        parse(one, text)
        return
    except VoiceForgeError as refused:
        error = refused
    assert not error.fatal
    (told,) = one.failed(error, STAMP)
    validate(told.body)
    assert told.body["variant"] == "SchemaError"
    assert told.body["message"] == text[:500]


@pytest.mark.parametrize("channel", [1, -1, "0", True, 0.0, None])
def test_a_channel_that_is_none_is_refused(channel: object):
    if channel is None:
        assert parse(wire(), {"type": "Finalize", "channel": None}) == Finalize(None)
        return
    with pytest.raises(InvalidMessage, match="is none of 0 to 0"):
        parse(wire(), {"type": "Finalize", "channel": channel})


@pytest.mark.parametrize("key", ["features", "processors"])
def test_features_are_turned_on_in_the_middle(key: str):
    one = wire(interim_results="true")
    command = parse(one, {"type": "Configure", key: {"numerals": True, "punctuate": True}})
    assert isinstance(command, Configure)
    assert command.options.text.numerals
    assert alternative(tell(one, FINAL))["transcript"] == "good morning anna", "not before it is accepted"
    (answer,) = one.configured("nano", STAMP)
    validate(answer.body)
    assert answer.body["type"] == "ConfigureSuccess"
    assert alternative(tell(one, FINAL))["transcript"] == "Good morning, Anna."


def test_keyterms_are_accepted_and_said_to_do_nothing():
    one = wire()
    parse(one, {"type": "Configure", "keyterms": ["VoiceForge"]})
    (answer,) = one.configured("nano", STAMP)
    assert answer.body["keyterms"] == ["VoiceForge"]
    assert answer.body["not_in_effect"] == ["keyterms"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"keyterms": ["x"] * 501}, "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"),
        ({"features": {"diarize": True}}, "CONFIGURE_INTERNAL_ERROR"),
        ({"features": {"numerals": "perhaps"}}, "CONFIGURE_INTERNAL_ERROR"),
    ],
)
def test_what_cannot_be_configured_fails_and_changes_nothing(message: dict[str, Any], code: str):
    one = wire()
    before = one.options
    reply = parse(one, {"type": "Configure", **message})
    assert isinstance(reply, Reply)
    validate(reply.messages[0].body)
    assert reply.messages[0].body["code"] == code
    assert one.options == before


@given(st.dictionaries(st.sampled_from(["features", "processors", "keyterms"]), JSON | st.lists(ANY_TEXT, max_size=3)))
def test_any_configure_is_answered(message: dict[str, object]):
    one = wire()
    try:
        command = parse(one, {"type": "Configure", **message})
    except InvalidMessage:
        return
    told = command.messages[0] if isinstance(command, Reply) else one.configured("nano", STAMP)[0]
    validate(told.body)
    assert json.dumps(told.body, ensure_ascii=False).encode()


# --- to the client ------------------------------------------------------------------------------------------------


@given(PARTIALS | FINALS, st.booleans(), st.sampled_from(["en", "multi"]))
def test_every_result_is_what_the_schema_says(event: Partial | Final, smart: bool, language: str):
    tell(wire(smart_format=str(smart).lower(), language=language), event)


@given(SAMPLES)
def test_speech_and_utterance_events_are_what_the_schema_says(at: int):
    one = wire(vad_events="true", utterance_end_ms="1000")
    assert tell(one, SpeechStarted(at))["timestamp"] == round(at / 16_000, 3)
    assert tell(one, UtteranceEnded(at))["last_word_end"] == round(at / 16_000, 3)
    assert one.tell(SpeechEnded(at), 0, STAMP) == []
    assert wire().tell(SpeechStarted(at), 0, STAMP) == []


def test_a_final_without_punctuation():
    told = tell(wire(), FINAL)
    assert (told["is_final"], told["speech_final"], told["from_finalize"]) == (True, True, False)
    assert (told["start"], told["duration"]) == (0.75, 1.75)
    assert told["channel_index"] == [0, 1]
    assert alternative(told)["transcript"] == "good morning anna"
    assert alternative(told)["words"][1] == {"word": "morning", "start": 1.25, "end": 1.75, "confidence": 0.8}


def test_a_final_with_punctuation_has_both_forms_of_each_word():
    told = alternative(tell(wire(punctuate="true"), FINAL))
    assert told["transcript"] == "Good morning, Anna."
    assert [(w["word"], w["punctuated_word"]) for w in told["words"]] == [
        ("good", "Good"), ("morning", "morning,"), ("anna", "Anna."),
    ]  # fmt: skip


def test_a_cut_within_speech_is_final_but_not_the_end_of_speech():
    cut = Final(1, 0, 16_000, "Good", 0.9, WORDS[:1], Timings(), ends_utterance=False)
    told = tell(wire(), cut)
    assert (told["is_final"], told["speech_final"]) == (True, False)


def test_an_utterance_that_ended_with_its_cut_still_has_an_end_of_speech():
    one = wire()
    tell(one, Final(1, 0, 16_000, "Good", 0.9, WORDS[:1], Timings(), ends_utterance=False))
    told = tell(one, NothingSaid(24_000))
    assert (told["is_final"], told["speech_final"]) == (True, True)
    assert (told["start"], told["duration"]) == (1.0, 0.5)
    assert told["channel"]["alternatives"][0] == {"transcript": "", "confidence": 0.0, "words": []}
    assert one.tell(NothingSaid(40_000), 0, STAMP) == [], "an utterance without words has none"


def test_without_endpointing_nothing_is_the_end_of_speech():
    assert tell(wire(endpointing="false"), FINAL)["speech_final"] is False


def test_finals_answer_finalizes_in_order_and_the_close_answers_none():
    one = wire()
    requested = Final(2, 0, 0, "", 0.0, (), Timings(), requested=True)
    parse(one, {"type": "Finalize"})
    parse(one, {"type": "Finalize"})
    told = [tell(one, event)["from_finalize"] for event in (FINAL, requested, requested, requested)]
    assert told == [False, True, True, False]


def test_channels_answer_their_own_finalizes():
    one = wire(encoding="linear16", sample_rate="16000", channels="2", multichannel="true")
    requested = Final(2, 0, 0, "", 0.0, (), Timings(), requested=True)
    parse(one, {"type": "Finalize", "channel": 1})
    assert tell(one, requested, 0)["from_finalize"] is False
    told = tell(one, requested, 1)
    assert (told["from_finalize"], told["channel_index"]) == (True, [1, 2])


def test_a_partial_is_interim_and_its_final_settles_it():
    one = wire(interim_results="true")
    partial = Partial(7, 0, 16_000, "Good mor", 0.5, Timings(), (WORDS[0], replace(WORDS[1], text="mor")), n_stable=1)
    (out,) = one.tell(partial, 0, STAMP)
    assert out.partial_of == (0, 7)
    assert out.body["is_final"] is False
    assert alternative(out.body)["transcript"] == "good mor"
    (out,) = one.tell(Final(7, 0, 16_000, "Good", 0.9, WORDS[:1], Timings()), 0, STAMP)
    assert out.settles == (0, 7)


def test_a_language_that_was_found_is_told_with_multi_only():
    found = Final(1, 0, 40_000, "Guten Tag", 0.8, WORDS, Timings(), language="de")
    told = alternative(tell(wire(language="multi"), found))
    assert told["languages"] == ["de"]
    assert {w["language"] for w in told["words"]} == {"de"}
    assert "languages" not in alternative(tell(wire(), found))


def test_search_says_where():
    told = tell(wire(search=["morning"]), FINAL)
    assert told["channel"]["search"][0]["hits"][0] == {"confidence": 1.0, "start": 1.25, "end": 1.75, "snippet": "morning,"}


def test_metadata_tells_what_is_not_in_effect_and_what_was_given():
    one = wire(diarize="true", extra="order:7", tag=["a", "b"])
    metadata = tell(one, FINAL)["metadata"]
    assert metadata["not_in_effect"] == ["diarize"]
    assert metadata["extra"] == {"order": "7"}
    assert metadata["request_id"] == SESSION.session_id
    (last,) = one.closed(Totals(received=24_000), None, STAMP)
    validate(last.body)
    assert last.body["tags"] == ["a", "b"]
    assert last.body["duration"] == 1.5


def test_the_audio_is_hashed():
    one = wire()
    for piece in (b"abc", b"def"):
        parse(one, piece)
    assert one.closed(Totals(), None, STAMP)[0].body["sha256"] == hashlib.sha256(b"abcdef").hexdigest()


@pytest.mark.parametrize(
    ("error", "code", "begins"),
    [
        (None, 1000, ""),
        (InvalidAudio("what"), 1008, "DATA-0000"),
        (NoData("what"), 1011, "NET-0001"),
        (EngineUnavailable("what"), 1011, "NET-0000"),
        (ShuttingDown("what"), 1012, "SHUTTING_DOWN"),
    ],
)
def test_close_codes(error: VoiceForgeError | None, code: int, begins: str):
    told, reason = wire().close_frame(error)
    assert told == code
    assert reason.startswith(begins)


@given(st.text(st.characters(codec="utf-8")))
def test_a_reason_fits_a_close_frame(text: str):
    assert len(wire().close_frame(InvalidAudio(text))[1].encode()) <= 123


@pytest.mark.parametrize("kind", error_types(), ids=lambda kind: kind.__name__)
def test_every_error_is_told_as_the_schema_says(kind: type[VoiceForgeError]):
    validate(wire().failed(kind("what is wrong; what to do"), STAMP)[0].body)


# --- going on with a session ----------------------------------------------------------------------------------------------

SOME_RAW = {"encoding": ["linear16"], "sample_rate": ["16000"]}


def test_a_session_is_named_by_a_header_or_a_subprotocol_where_that_is_turned_on():
    by_header = Handshake("/v1/listen", SOME_RAW, {"x-deepgram-session-id": "abc"})
    by_protocol = Handshake("/v1/listen", SOME_RAW, {}, ["token", "key", "x-deepgram-session-id", "abc"])
    cut_off = Handshake("/v1/listen", SOME_RAW, {}, ["token", "key", "x-deepgram-session-id"])
    assert DeepgramAdapter(resume=True).key(by_protocol) == "key"
    for one in (by_header, by_protocol):
        assert DeepgramAdapter().resuming(one) is None
        assert not DeepgramAdapter().wire(one).options.resumable
        assert DeepgramAdapter(resume=True).resuming(one) == Resuming("abc", must=False)
        assert DeepgramAdapter(resume=True).wire(one).options.resumable
    assert DeepgramAdapter(resume=True).resuming(cut_off) is None
    assert not DeepgramAdapter(resume=True).wire(cut_off).options.resumable


def test_nobody_goes_on_with_a_container():
    one = Handshake("/v1/listen", {}, {"x-deepgram-session-id": "abc"})
    assert not DeepgramAdapter(resume=True).wire(one).options.resumable


def test_other_settings_are_another_session():
    one = DeepgramAdapter(resume=True).wire(Handshake("/v1/listen", SOME_RAW, {}))
    one.check_resumed(Handshake("/v1/listen", SOME_RAW, {}))
    with pytest.raises(SessionDiffers):
        one.check_resumed(Handshake("/v1/listen", {**SOME_RAW, "language": ["de"]}, {}))
