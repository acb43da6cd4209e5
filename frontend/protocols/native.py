"""The native protocol of `/ws/v1/transcribe`: JSON messages, audio as binary frames or base64. See docs/protocol.md."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from frontend.errors import InvalidMessage, VoiceForgeError
from frontend.protocols.commands import Audio, CloseStream, Command, Configure, Finalize, KeepAlive
from frontend.protocols.config import StreamConfig, updated
from frontend.speech.events import Event, Final, Finished, Partial, SpeechEnded, SpeechStarted, Timings

RATE = 16_000
Message = dict[str, Any]


class NativeProtocol:
    """Parses what one client sends; keeps its settings, since a `configure` changes only what it names."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self._handlers: dict[str, Callable[[Mapping[str, Any]], Command]] = {
            "configure": self._configure,
            "audio": self._audio,
            "keep_alive": lambda _: KeepAlive(),
            "finalize": lambda _: Finalize(),
            "close_stream": lambda _: CloseStream(),
        }

    def parse(self, frame: str | bytes) -> Command:
        """Raises `InvalidMessage`, `InvalidConfig` or `InvalidAudio`; the stream goes on after any of them."""
        if isinstance(frame, bytes):
            return Audio(frame)
        try:
            message = json.loads(frame)
        except (ValueError, RecursionError):
            raise InvalidMessage(
                'the message is not JSON; send an object with a "type", or audio as a binary frame'
            ) from None
        if not isinstance(message, dict):
            raise InvalidMessage(f'the message is a JSON {type(message).__name__}; send an object with a "type"')
        kind = message.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise InvalidMessage(f"unknown message type {str(kind)[:60]!r}; there is {', '.join(self._handlers)}")
        return handler(message)

    def _configure(self, message: Mapping[str, Any]) -> Configure:
        changes = message.get("config")
        if not isinstance(changes, dict):
            raise InvalidMessage('a configure message needs an object "config"')
        self.config = updated(self.config, changes)
        return Configure(self.config)

    def _audio(self, message: Mapping[str, Any]) -> Audio:
        data = message.get("data")
        if not isinstance(data, str):
            raise InvalidMessage('an audio message needs "data", a base64 string; or send the bytes as a binary frame')
        try:
            return Audio(base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            raise InvalidMessage(
                '"data" is not base64 (RFC 4648, with padding); or send the bytes as a binary frame'
            ) from None


def seconds(samples: int) -> float:
    return round(samples / RATE, 3)


def _timings(t: Timings) -> Message:
    return {"queue_ms": round(t.queue_ms, 1), "encode_ms": round(t.encode_ms, 1), "decode_ms": round(t.decode_ms, 1)}


def _result(kind: str, event: Partial | Final, timestamp: str) -> Message:
    return {
        "type": kind,
        "transcript": event.text,
        "confidence": round(event.confidence, 4),
        "start": seconds(event.start),
        "duration": seconds(event.end - event.start),
        "segment": event.segment,
        "is_final": kind == "final",
        "timestamp": timestamp,
        "metadata": _timings(event.timings),
    }


def message(event: Event, timestamp: str) -> Message | None:
    """An event as the client reads it; `timestamp` is ISO 8601. None for what the wire does not tell."""
    match event:
        case Partial():
            return _result("interim", event, timestamp)
        case Final():
            words = [
                {"word": w.text, "start": seconds(w.start), "end": seconds(w.end), "confidence": round(w.confidence, 4)}
                for w in event.words
            ]
            return {**_result("final", event, timestamp), "words": words, "from_finalize": event.requested}
        case SpeechStarted(at):
            return {"type": "speech_started", "at": seconds(at), "timestamp": timestamp}
        case SpeechEnded(at):
            return {"type": "speech_ended", "at": seconds(at), "timestamp": timestamp}
        case Finished():
            return None


def error_message(error: VoiceForgeError, timestamp: str) -> Message:
    detail = {"code": error.code, "message": str(error), "retryable": error.retryable, "fatal": error.fatal}
    return {"type": "error", "error": detail, "timestamp": timestamp}
