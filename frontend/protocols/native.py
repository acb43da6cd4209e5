"""The native protocol of `/ws/v1/transcribe`: JSON messages, audio as binary frames or base64. See docs/protocol.md."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from frontend.errors import InvalidMessage, VoiceForgeError
from frontend.protocols.base import (
    Audio,
    Body,
    CloseStream,
    Command,
    Configure,
    Finalize,
    Handshake,
    KeepAlive,
    Opened,
    Outgoing,
    Refusal,
    StreamOptions,
    Totals,
    seconds,
)
from frontend.protocols.config import StreamConfig, from_query, updated
from frontend.speech.events import Event, Final, Finished, Partial, SpeechEnded, SpeechStarted, Timings, UtteranceEnded, Word

PATH = "/ws/v1/transcribe"


class NativeAdapter:
    """Key by `api_key=` or the `Authorization` header; settings in the query."""

    paths = (PATH,)

    def key(self, handshake: Handshake) -> str | None:
        return handshake.last("api_key") or bearer(handshake.headers.get("authorization"))

    def subprotocol(self, handshake: Handshake) -> None:
        return None

    def headers(self, request_id: str) -> dict[str, str]:
        return {}

    def wire(self, handshake: Handshake) -> NativeWire:
        return NativeWire(from_query(handshake.query))

    def refusal(self, error: VoiceForgeError, request_id: str) -> Refusal:
        return Refusal({"type": "error", "error": _described(error) | {"fatal": True}})


def bearer(header: str | None) -> str | None:
    """The key of an `Authorization` header with the scheme Token or Bearer, in any case."""
    scheme, _, key = (header or "").partition(" ")
    return key.strip() if scheme.lower() in {"token", "bearer"} else None


class NativeWire:
    """One client. Keeps its settings, since a `configure` changes only what it names."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self._in_effect = config
        self._session_id = ""
        self._handlers: dict[str, Callable[[Mapping[str, Any]], Command]] = {
            "configure": self._configure,
            "audio": self._audio,
            "keep_alive": lambda _: KeepAlive(),
            "finalize": lambda _: Finalize(),
            "close_stream": lambda _: CloseStream(),
        }

    @property
    def options(self) -> StreamOptions:
        return self.config.options

    # --- from the client ------------------------------------------------------------------------------------------

    def parse(self, frame: str | bytes) -> Iterable[Command]:
        """Raises `InvalidMessage`, `InvalidConfig` or `InvalidAudio`; the stream goes on after any of them."""
        if isinstance(frame, bytes):
            return (Audio(frame),)
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
        return (handler(message),)

    def _configure(self, message: Mapping[str, Any]) -> Configure:
        changes = message.get("config")
        if not isinstance(changes, dict):
            raise InvalidMessage('a configure message needs an object "config"')
        self.config = updated(self.config, changes)
        return Configure(self.config.options)

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

    # --- to the client --------------------------------------------------------------------------------------------

    def opened(self, session: Opened, now: str) -> list[Outgoing]:
        self._session_id = session.session_id
        head = {"type": "ready", "session_id": session.session_id, "model": session.model}
        return [Outgoing({**head, **self._settings(session.model), "limits": dict(session.limits), "timestamp": now})]

    def configured(self, model: str, now: str) -> list[Outgoing]:
        self._in_effect = self.config
        return [Outgoing({"type": "configured", **self._settings(model), "timestamp": now})]

    def refused(self, options: StreamOptions) -> None:
        self.config = self._in_effect

    def tell(self, event: Event, channel: int, now: str) -> list[Outgoing]:
        body = message(event, now)
        if body is None:
            return []
        match event:
            case Partial():
                return [Outgoing(body, partial_of=(channel, event.segment))]
            case Final():
                return [Outgoing(body, settles=(channel, event.segment))]
            case _:
                return [Outgoing(body)]

    def failed(self, error: VoiceForgeError, now: str) -> list[Outgoing]:
        return [Outgoing({"type": "error", "error": _described(error), "timestamp": now})]

    def closed(self, totals: Totals, error: VoiceForgeError | None, now: str) -> list[Outgoing]:
        sums = {
            "audio_s": seconds(totals.received),
            "speech_s": seconds(totals.speech),
            "interims": totals.n_partials,
            "finals": totals.n_finals,
        }
        reason = self.close_frame(error)[1]
        body = {"type": "closed", "session_id": self._session_id, **sums, "reason": reason, "timestamp": now}
        return [Outgoing(body)]

    def close_frame(self, error: VoiceForgeError | None) -> tuple[int, str]:
        return (error.close_code, error.code) if error else (1000, "client closed the stream")

    def _settings(self, model: str) -> Body:
        return {"config": self.config.model_dump() | {"model": model}, "not_in_effect": self.config.not_in_effect()}


def _described(error: VoiceForgeError) -> Body:
    return {"code": error.code, "message": str(error), "retryable": error.retryable, "fatal": error.fatal}


def _timings(t: Timings) -> Body:
    return {"queue_ms": round(t.queue_ms, 1), "encode_ms": round(t.encode_ms, 1), "decode_ms": round(t.decode_ms, 1)}


def _word(w: Word) -> Body:
    told: Body = {"word": w.text, "start": seconds(w.start), "end": seconds(w.end), "confidence": round(w.confidence, 4)}
    if w.alternatives:
        told["alternatives"] = [{"word": a.text, "confidence": round(a.confidence, 4)} for a in w.alternatives]
    return told


def _result(kind: str, event: Partial | Final, timestamp: str) -> Body:
    return {
        "type": kind,
        "transcript": event.text,
        "confidence": round(event.confidence, 4),
        "start": seconds(event.start),
        "duration": seconds(event.end - event.start),
        "segment": event.segment,
        "is_final": kind == "final",
        "words": [_word(w) for w in event.words],
        "language": event.language,
        "timestamp": timestamp,
        "metadata": _timings(event.timings),
    }


def message(event: Event, timestamp: str) -> Body | None:
    """An event as the client reads it; `timestamp` is ISO 8601. None for what the wire does not tell."""
    match event:
        case Partial():
            return {**_result("interim", event, timestamp), "stable_words": event.n_stable}
        case Final():
            probability = event.language_probability
            return {
                **_result("final", event, timestamp),
                "language_probability": None if probability is None else round(probability, 4),
                "ends_utterance": event.ends_utterance,
                "from_finalize": event.requested,
            }
        case SpeechStarted(at):
            return {"type": "speech_started", "at": seconds(at), "timestamp": timestamp}
        case SpeechEnded(at):
            return {"type": "speech_ended", "at": seconds(at), "timestamp": timestamp}
        case UtteranceEnded() | Finished():
            return None
