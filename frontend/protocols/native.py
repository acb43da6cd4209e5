"""The native protocol of `/ws/v1/transcribe`: JSON messages, audio as binary frames or base64. See docs/protocol.md."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from frontend.errors import InvalidConfig, InvalidMessage, SessionDiffers, VoiceForgeError
from frontend.protocols.base import (
    Audio,
    Body,
    CloseStream,
    Command,
    Configure,
    Finalize,
    Handshake,
    Held,
    KeepAlive,
    Opened,
    Outgoing,
    Refusal,
    Resuming,
    StreamOptions,
    Totals,
    seconds,
)
from frontend.protocols.config import StreamConfig, from_query, updated
from frontend.speech.events import (
    Event,
    Final,
    Finished,
    Flushed,
    NothingSaid,
    Partial,
    SpeechEnded,
    SpeechStarted,
    Timings,
    UtteranceEnded,
    Word,
)
from frontend.text.options import TextOptions
from frontend.text.pipeline import Text, TextPipeline
from frontend.text.search import Hit
from frontend.text.words import transcript

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

    def resuming(self, handshake: Handshake) -> Resuming | None:
        session, after = handshake.last("session"), handshake.last("after")
        if session is None:
            return None
        if after is not None and not re.fullmatch(r"[0-9]{1,9}", after):
            raise InvalidConfig(f"after={after[:40]!r} is no segment; give the `segment` of the last final that came")
        return Resuming(session, None if after is None else int(after))

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
        self._first = self._in_effect = config
        self._pipeline = TextPipeline(config.text, config.language)
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
        return [Outgoing(self._ready(session, now), greeting=True)]

    def check_resumed(self, handshake: Handshake) -> None:
        """Settings may be left out, or be what they were in the first handshake, or what they are now."""
        asked = from_query(handshake.query)
        given = [name for name in StreamConfig.model_fields if name in handshake.query]
        for name in given:
            value = getattr(asked, name)
            if value not in (getattr(self._first, name), getattr(self.config, name)):
                told = str(getattr(self.config, name))[:60]
                raise SessionDiffers(
                    f"{name} of this session is {told}; leave it out, or begin a new session without session="
                )

    def resumed(self, session: Opened, held: Held, now: str) -> list[Outgoing]:
        told = {"resumed": True, "held": {"bytes": held.bytes, "samples": held.samples}}
        return [Outgoing(self._ready(session, now) | told, greeting=True)]

    def _ready(self, session: Opened, now: str) -> Body:
        head = {"type": "ready", "session_id": session.session_id, "model": session.model}
        return {**head, **self._settings(session.model), "limits": dict(session.limits), "timestamp": now}

    def configured(self, model: str, now: str) -> list[Outgoing]:
        if (self.config.text, self.config.language) != (self._in_effect.text, self._in_effect.language):
            self._pipeline = TextPipeline(self.config.text, self.config.language)
        self._in_effect = self.config
        return [Outgoing({"type": "configured", **self._settings(model), "timestamp": now})]

    def refused(self, options: StreamOptions) -> None:
        self.config = self._in_effect

    def parted(self, n_channels: int) -> None:
        raise NotImplementedError("channels are always mixed")

    def tell(self, event: Event, channel: int, now: str) -> list[Outgoing]:
        match event:
            case Partial():
                body = self._result(event, self._pipeline.partial(event.words, event.n_stable), now)
                return [Outgoing(body, partial_of=(channel, event.segment))] if body["transcript"] else []
            case Final():
                text = self._pipeline.final(event.words)
                return [Outgoing(self._result(event, text, now), settles=(channel, event.segment))]
            case SpeechStarted(at):
                return [Outgoing({"type": "speech_started", "at": seconds(at), "timestamp": now})]
            case SpeechEnded(at):
                return [Outgoing({"type": "speech_ended", "at": seconds(at), "timestamp": now})]
            case UtteranceEnded() | NothingSaid() | Flushed() | Finished():
                return []

    def failed(self, error: VoiceForgeError, now: str) -> list[Outgoing]:
        return [Outgoing({"type": "error", "error": _described(error), "timestamp": now})]

    def closed(self, totals: Totals, error: VoiceForgeError | None, now: str) -> list[Outgoing]:
        sums = {
            "audio_s": seconds(totals.received),
            "speech_s": seconds(totals.speech),
            "interims": totals.n_partials,
            "finals": totals.n_finals,
            "engine_ms": round(totals.engine_ms, 1),
            "lag_ms": totals.lag_ms and {"p50": round(totals.lag_ms[0], 1), "p95": round(totals.lag_ms[1], 1)},
        }
        reason = self.close_frame(error)[1]
        body = {"type": "closed", "session_id": self._session_id, **sums, "reason": reason, "timestamp": now}
        return [Outgoing(body)]

    def close_frame(self, error: VoiceForgeError | None) -> tuple[int, str]:
        return (error.close_code, error.code) if error else (1000, "client closed the stream")

    def _result(self, event: Partial | Final, text: Text, now: str) -> Body:
        options = self._pipeline.options
        plain = options == TextOptions()  # then the text is told as the model wrote it
        body: Body = {
            "type": "final" if isinstance(event, Final) else "interim",
            "transcript": event.text if plain else transcript(text.words),
            "confidence": round(event.confidence, 4),
            "start": seconds(event.start),
            "duration": seconds(event.end - event.start),
            "segment": event.segment,
            "is_final": isinstance(event, Final),
            "words": [_word(w, i in text.low, hidden=bool(options.redact)) for i, w in enumerate(text.words)],
            "language": event.language,
            "timestamp": now,
            "metadata": _timings(event.timings),
        }
        if isinstance(event, Partial):
            return body | {"stable_words": text.stable}
        probability = event.language_probability
        body |= {
            "language_probability": None if probability is None else round(probability, 4),
            "ends_utterance": event.ends_utterance,
            "from_finalize": event.requested,
        }
        if text.search:
            body["search"] = [{"query": f.query, "hits": [_hit(h) for h in f.hits]} for f in text.search]
        return body

    def _settings(self, model: str) -> Body:
        return {"config": self.config.model_dump() | {"model": model}, "not_in_effect": self.config.not_in_effect()}


def _described(error: VoiceForgeError) -> Body:
    return {"code": error.code, "message": str(error), "retryable": error.retryable, "fatal": error.fatal}


def _timings(t: Timings) -> Body:
    named = {"queue_ms": t.queue_ms, "encode_ms": t.encode_ms, "decode_ms": t.decode_ms, "lag_ms": t.lag_ms}
    return {name: round(value, 1) for name, value in named.items()}


def _word(w: Word, low: bool, *, hidden: bool) -> Body:
    """`hidden`: what else a word may have been is not told either."""
    told: Body = {"word": w.text, "start": seconds(w.start), "end": seconds(w.end), "confidence": round(w.confidence, 4)}
    if low:
        told["low_confidence"] = True
    if w.alternatives and not hidden:
        told["alternatives"] = [{"word": a.text, "confidence": round(a.confidence, 4)} for a in w.alternatives]
    return told


def _hit(h: Hit) -> Body:
    return {
        "confidence": round(h.confidence, 4),
        "start": seconds(h.start),
        "end": seconds(h.end),
        "snippet": h.snippet,
    }
