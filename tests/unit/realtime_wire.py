"""What the tests of OpenAI's Realtime wire say and hear; every told event is checked against the schema."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from frontend.errors import (
    VoiceForgeError,
)
from frontend.protocols.base import Command, Configure, Handshake, Opened
from frontend.protocols.openai.realtime import PATH, RealtimeAdapter, RealtimeWire
from frontend.speech.events import (
    Event,
    Final,
    Partial,
    Timings,
    Word,
)
from tests.unit.realtime_schema import validate

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
