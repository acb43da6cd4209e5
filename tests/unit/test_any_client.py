"""Whatever a client sends in its handshake and its frames: commands, or an error that is ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.audio.format import ENCODINGS
from frontend.errors import VoiceForgeError
from frontend.protocols.base import Adapter, Audio, CloseStream, Configure, Handshake, Opened
from frontend.protocols.config import StreamConfig
from frontend.protocols.deepgram.live import DeepgramAdapter
from frontend.protocols.deepgram.query import LISTS, NOT_YET, TEXT, ListenQuery, understood
from frontend.protocols.native import NativeAdapter

T = TypeVar("T")
NOW = "2026-01-01T00:00:00.000Z"
NAMES = sorted({*StreamConfig.model_fields, *ListenQuery.model_fields, *NOT_YET, *TEXT, *LISTS, "api_key"})
VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["true", "false", "", "en", "multi", "nan", "-1", "8000", "16000", "48000", "2", "16", *ENCODINGS]),
)
QUERY = st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, max_size=3), max_size=6)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=8,
)
KINDS = ["configure", "audio", "finalize", "keep_alive", "close_stream", "KeepAlive", "Finalize", "CloseStream", "Configure"]
FIELDS = st.dictionaries(
    st.sampled_from(["config", "data", "channel", "features", "processors", "keyterms"]), JSON, max_size=3
)
CONFIGS = st.dictionaries(st.sampled_from(NAMES), st.one_of(JSON, VALUES), max_size=4)
MESSAGES = st.one_of(
    JSON,
    st.builds(lambda kind, fields: {"type": kind, **fields}, st.sampled_from(KINDS), FIELDS),
    st.builds(lambda changes: {"type": "configure", "config": changes}, CONFIGS),
    st.builds(lambda changes: {"type": "Configure", "features": changes}, CONFIGS),
).map(json.dumps)
FRAMES = st.lists(st.one_of(st.binary(max_size=50), st.text(max_size=50), MESSAGES), max_size=6)


def outcome(work: Callable[[], T]) -> tuple[T | None, VoiceForgeError | None]:
    try:
        return work(), None
    except VoiceForgeError as error:
        return None, error


@pytest.mark.parametrize("adapter", [NativeAdapter(), DeepgramAdapter()], ids=["native", "deepgram"])
@given(query=QUERY, headers=st.dictionaries(st.sampled_from(["authorization", "origin"]), VALUES), frames=FRAMES)
@settings(max_examples=400, deadline=None)
def test_any_handshake_and_any_frames_are_understood_or_refused_by_an_error_of_ours(
    adapter: Adapter, query: dict[str, list[str]], headers: dict[str, str], frames: list[str | bytes]
):
    handshake = Handshake(adapter.paths[0], query, headers, ["token", "x"])
    adapter.key(handshake)
    wire, error = outcome(lambda: adapter.wire(handshake))
    if wire is None:
        assert error
        assert json.dumps(adapter.refusal(error, "0").body)
        return
    assert 1 <= wire.options.n_channels <= 16
    wire.opened(Opened("0", "nano", {}, NOW), NOW)
    for frame in frames:
        commands, error = outcome(lambda frame=frame: list(wire.parse(frame)))
        for command in commands or ():
            if isinstance(command, Configure):
                wire.configured("nano", NOW)
            elif isinstance(frame, bytes):
                assert isinstance(command, Audio | CloseStream)
        if error:
            assert not error.fatal
            assert json.dumps([message.body for message in wire.failed(error, NOW)])
            code, reason = wire.close_frame(error)
            assert code in range(1000, 5000)
            assert len(reason.encode()) <= 123


@given(query=QUERY)
@settings(max_examples=300, deadline=None)
def test_any_query_of_a_recording(query: dict[str, list[str]]):
    try:
        listen = understood(query, "recorded")
    except VoiceForgeError:
        return
    assert listen.options.n_channels >= 1
