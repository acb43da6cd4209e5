"""What clients send: every frame is a command or a clear error."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import InvalidAudio, InvalidConfig, InvalidMessage, SessionDiffers, VoiceForgeError
from frontend.protocols.base import Audio, CloseStream, Configure, Finalize, Handshake, Held, KeepAlive, Opened, Resuming
from frontend.protocols.config import StreamConfig
from frontend.protocols.native import NativeAdapter, NativeWire

STAMP = "2026-01-31T12:00:00.000Z"
TYPES = ["configure", "audio", "keep_alive", "finalize", "close_stream"]

# With surrogates: JSON can name half a character ("\ud800"), which no UTF-8 socket can send back.
ANY_TEXT = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
SETTING_NAMES = st.sampled_from(list(StreamConfig.model_fields))


def parse(frame: str | bytes, config: StreamConfig | None = None):
    (command,) = NativeWire(config or StreamConfig()).parse(frame)
    return command


def outcome(frame: str | bytes) -> object:
    """The command, or the error after a check that it can be told to the client."""
    error: VoiceForgeError
    try:
        return parse(frame)
    except VoiceForgeError as refused:
        error = refused
    assert not error.fatal, "a wrong message must not end the stream"
    assert json.dumps(NativeWire(StreamConfig()).failed(error, STAMP)[0].body, ensure_ascii=False).encode()
    assert str(error)
    return error


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_gives_a_command_or_a_clear_error(text: str):
    assert isinstance(outcome(text), InvalidMessage)


@given(st.binary(max_size=200))
def test_any_binary_frame_is_audio_as_it_is(data: bytes):
    assert parse(data) == Audio(data)


@given(JSON)
def test_any_json_value_gives_a_command_or_a_clear_error(value: object):
    assert outcome(json.dumps(value)) is not None


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(["config", "data", "type2"]), JSON, max_size=3))
def test_any_fields_of_a_known_message_give_a_command_or_a_clear_error(kind: str, fields: dict[str, object]):
    assert outcome(json.dumps({"type": kind, **fields})) is not None


@given(st.dictionaries(SETTING_NAMES | ANY_TEXT, JSON, max_size=4))
def test_any_settings_give_a_configuration_or_a_clear_error(changes: dict[str, object]):
    assert isinstance(
        outcome(json.dumps({"type": "configure", "config": changes})), Configure | InvalidConfig | InvalidAudio
    )


@given(st.dictionaries(SETTING_NAMES, JSON, max_size=3))
def test_settings_that_are_refused_leave_the_old_ones_in_place(changes: dict[str, object]):
    wire = NativeWire(StreamConfig(language="de"))
    try:
        assert list(wire.parse(json.dumps({"type": "configure", "config": changes}))) == [Configure(wire.options)]
    except VoiceForgeError:
        assert wire.config == StreamConfig(language="de")


@given(st.binary(max_size=100))
def test_base64_audio_is_the_same_as_a_binary_frame(data: bytes):
    message = json.dumps({"type": "audio", "data": base64.b64encode(data).decode()})
    assert parse(message) == parse(data)


@pytest.mark.parametrize("data", ["abc", "ab=c", "@@@@", "YWJj\n", "YWJj YWJj", "äöü=", "YW-_"])
def test_what_is_not_base64_is_said_to_be_so(data: str):
    with pytest.raises(InvalidMessage, match="not base64"):
        parse(json.dumps({"type": "audio", "data": data}))


@pytest.mark.parametrize("fields", [{}, {"data": None}, {"data": 5}, {"data": ["YWJj"]}])
def test_an_audio_message_without_data_says_what_it_needs(fields: dict[str, object]):
    with pytest.raises(InvalidMessage, match='needs "data"'):
        parse(json.dumps({"type": "audio", **fields}))


@pytest.mark.parametrize(
    ("kind", "command"), [("keep_alive", KeepAlive()), ("finalize", Finalize()), ("close_stream", CloseStream())]
)
def test_messages_without_fields_ignore_what_else_they_carry(kind: str, command: object):
    assert parse(json.dumps({"type": kind})) == command
    assert parse(json.dumps({"type": kind, "id": 7})) == command


@pytest.mark.parametrize("kind", ["Finalize", "", "nonsense", None, 5, ["audio"], {"a": 1}])
def test_an_unknown_type_is_answered_with_those_there_are(kind: object):
    with pytest.raises(InvalidMessage) as error:
        parse(json.dumps({"type": kind}))
    assert all(known in str(error.value) for known in TYPES)


@pytest.mark.parametrize("text", ["[1]", "5", '"finalize"', "null", "true"])
def test_json_that_is_no_object_is_refused(text: str):
    with pytest.raises(InvalidMessage, match="send an object"):
        parse(text)


@pytest.mark.parametrize("text", ["", "{", "hello", "{'type': 'finalize'}", '{"type": "finalize"} x'])
def test_text_that_is_no_json_is_refused(text: str):
    with pytest.raises(InvalidMessage, match="not JSON"):
        parse(text)


@pytest.mark.parametrize("depth", [100, 900, 950, 980, 990, 1_000, 5_000, 100_000])
def test_nesting_however_deep_gives_a_clear_error(depth: int):
    nest = "[" * depth + "]" * depth
    for text in (nest, f'{{"type": {nest}}}', f'{{"type": "configure", "config": {{"encoding": {nest}}}}}'):
        assert isinstance(outcome(text), VoiceForgeError)


@pytest.mark.parametrize(
    "text",
    [
        r'{"type": "\ud800"}',
        r'{"type": "audio", "data": "\ud800"}',
        r'{"type": "configure", "config": {"\ud800": 1}}',
        r'{"type": "configure", "config": {"encoding": "\ud800"}}',
        r'{"type": "configure", "config": {"model": "\ud800"}}',
        r'{"type": "configure", "config": {"custom_vocabulary": ["\udfff"]}}',
    ],
)
def test_half_a_character_gives_an_error_that_can_be_sent(text: str):
    assert isinstance(outcome(text), VoiceForgeError)


def test_a_number_of_a_million_digits_gives_a_clear_error():
    for text in ("9" * 1_000_000, f'{{"type": "configure", "config": {{"channels": {"9" * 4_000}}}}}'):
        assert isinstance(outcome(text), VoiceForgeError)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "x" * 100_000},
        {"type": "configure", "config": {"x" * 100_000: 1}},
        {"type": "configure", "config": {"encoding": "x" * 100_000}},
        {"type": "configure", "config": {"language": "x" * 100_000}},
        {"type": "configure", "config": {f"setting{i}": 1 for i in range(5_000)}},
        {"type": "configure", "config": {"custom_vocabulary": [7] * 5_000}},
    ],
    ids=["type", "setting", "encoding", "language", "many settings", "many words"],
)
def test_an_error_is_short_however_long_the_message_is(message: dict[str, object]):
    # What a client sends comes back to it in an error, into its outbox and into logs.
    error = outcome(json.dumps(message))
    assert isinstance(error, VoiceForgeError)
    assert len(str(error)) < 4_000


def test_a_configure_changes_only_what_it_names():
    wire = NativeWire(StreamConfig())
    wire.parse('{"type":"configure","config":{"language":"de","sample_rate":8000}}')
    wire.parse('{"type":"configure","config":{"encoding":"mulaw"}}')
    assert wire.config == StreamConfig(language="de", sample_rate=8000, encoding="mulaw")


@pytest.mark.parametrize("fields", [{}, {"config": None}, {"config": []}, {"config": "linear16"}])
def test_a_configure_without_settings_says_what_it_needs(fields: dict[str, object]):
    with pytest.raises(InvalidMessage, match='object "config"'):
        parse(json.dumps({"type": "configure", **fields}))


# --- going on with a session ----------------------------------------------------------------------------------------------


def handshake(**query: str) -> Handshake:
    return Handshake("/ws/v1/transcribe", {k: [v] for k, v in query.items()}, {})


def test_a_handshake_names_the_session_and_the_last_final():
    assert NativeAdapter().resuming(handshake()) is None
    assert NativeAdapter().resuming(handshake(session="a")) == Resuming("a")
    assert NativeAdapter().resuming(handshake(session="a", after="12")) == Resuming("a", after=12)


@pytest.mark.parametrize("after", ["", "-1", "1.5", "x", "9" * 10, "١"])
def test_what_is_no_final_is_said_to_be_none(after: str):
    with pytest.raises(InvalidConfig, match="segment"):
        NativeAdapter().resuming(handshake(session="a", after=after))


def test_settings_of_a_session_that_goes_on_are_those_it_has_or_began_with():
    wire = NativeAdapter().wire(handshake(endpointing_ms="700", redact="numbers"))
    next(iter(wire.parse('{"type": "configure", "config": {"redact": []}}')))
    for same in ({}, {"endpointing_ms": "700"}, {"redact": "numbers"}, {"redact": ""}, {"api_key": "k", "session": "s"}):
        wire.check_resumed(handshake(**same))
    for other in ({"endpointing_ms": "500"}, {"redact": "pci"}, {"language": "de"}):
        with pytest.raises(SessionDiffers, match=next(iter(other))):
            wire.check_resumed(handshake(**other))


def test_a_client_that_is_back_is_told_what_the_server_holds():
    wire = NativeWire(StreamConfig())
    for held in (Held(640, 320), Held(77, None)):
        (out,) = wire.resumed(Opened("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "nano", {}, STAMP), held, STAMP)
        assert out.greeting
        assert out.body["resumed"] is True
        assert out.body["held"] == {"bytes": held.bytes, "samples": held.samples}
