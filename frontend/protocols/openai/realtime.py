"""OpenAI's Realtime transcription, `/v1/realtime`: JSON events with base64 audio. See docs/openai-realtime.md.

Two generations of names: the general interface, and the beta, which a client chooses by the header
`OpenAI-Beta: realtime=v1`, the subprotocol `openai-beta.realtime-v1` or the event `transcription_session.update`.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from frontend.errors import (
    InvalidAudio,
    InvalidMessage,
    SessionTooLong,
    UnknownLanguage,
    UnknownModel,
    VoiceForgeError,
)
from frontend.protocols.base import (
    RATE,
    Audio,
    Body,
    Command,
    Configure,
    Discard,
    Finalize,
    Handshake,
    Held,
    Opened,
    Outgoing,
    Refusal,
    StreamOptions,
    Totals,
)
from frontend.protocols.native import bearer
from frontend.protocols.openai.errors import WrongParameter, error_body, error_object
from frontend.protocols.openai.realtime_session import SessionConfig, flat_name
from frontend.protocols.openai.realtime_turns import Turns
from frontend.speech.events import Event, SpeechEnded

PATH = "/v1/realtime"
KEY_PROTOCOL = "openai-insecure-api-key."
BETA_PROTOCOL, BETA_HEADER = "openai-beta.realtime-v1", "realtime=v1"
SHORTEST_COMMIT_MS = 100
LONGEST_ID = 512
LONGEST_REASON = 123
"""Bytes of a close frame's reason (RFC 6455)."""

CONVERSATION = ("response.", "conversation.", "output_audio_buffer.")
"""Client events of what this server does not do."""

SET_BEFORE_AUDIO = {
    "model": "transcription.model",
    "language": "transcription.language",
    "vad_threshold": "turn_detection.threshold",
    "pre_roll_ms": "turn_detection.prefix_padding_ms",
    "endpointing_ms": "turn_detection.silence_duration_ms",
}
_CODES: dict[type[VoiceForgeError], str] = {
    WrongParameter: "invalid_value",
    InvalidAudio: "invalid_value",
    SessionTooLong: "session_expired",
}
"""OpenAI's codes in a session, where they are others than over HTTP."""

_PARAMS: dict[type[VoiceForgeError], str] = {
    InvalidAudio: "audio.input.format",
    UnknownModel: "audio.input.transcription.model",
    UnknownLanguage: "audio.input.transcription.language",
}
"""Below `session`."""


class WrongEvent(InvalidMessage):
    """With OpenAI's code for it, and the field of the event that is wrong."""

    def __init__(self, message: str, openai_code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.openai_code, self.param = openai_code, param


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


class RealtimeAdapter:
    """Key by the `Authorization` header, or in a subprotocol as browsers must; `realtime` is selected where offered."""

    paths = (PATH,)

    def key(self, handshake: Handshake) -> str | None:
        offered = (p.removeprefix(KEY_PROTOCOL) for p in handshake.subprotocols if p.startswith(KEY_PROTOCOL))
        return bearer(handshake.headers.get("authorization")) or next(offered, None)

    def subprotocol(self, handshake: Handshake) -> str | None:
        return "realtime" if "realtime" in handshake.subprotocols else None

    def headers(self, request_id: str) -> dict[str, str]:
        return {"x-request-id": request_id}

    def resuming(self, handshake: Handshake) -> None:
        return None

    def wire(self, handshake: Handshake) -> RealtimeWire:
        intent = handshake.last("intent")
        if intent not in (None, "transcription"):
            raise WrongParameter(
                "intent", f"intent {intent[:40]!r}: this server transcribes only; connect with intent=transcription"
            )
        if handshake.last("call_id") is not None:
            raise WrongParameter("call_id", "call_id: there are no calls here; connect with intent=transcription")
        beta = BETA_HEADER in handshake.headers.get("openai-beta", "") or BETA_PROTOCOL in handshake.subprotocols
        return RealtimeWire(SessionConfig(query_model=handshake.last("model") or None), beta=beta, intent=intent is not None)

    def refusal(self, error: VoiceForgeError, request_id: str) -> Refusal:
        return Refusal(error_body(error), self.headers(request_id))


class RealtimeWire:
    """One client: its session and its events. What becomes of its speech is in `Turns`."""

    def __init__(self, config: SessionConfig, *, beta: bool, intent: bool) -> None:
        self.config = self._in_effect = config
        self._beta, self._intent = beta, intent
        self._session = Opened("", "", {}, "")
        self._updated = "session.updated"
        self._event_id: str | None = None
        """Of the client event that is being carried out."""
        self._n_ids = 0
        self._clock, self._buffered_from = 0.0, 0.0
        """Samples at 16 kHz that were sent, and how many of them were committed or cleared."""
        self._samples_per_byte = self._pace()
        self._turns = Turns(lambda: self._id("item"))
        self._handlers: dict[str, Callable[[Mapping[str, Any]], Command]] = {
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "session.update": self._update,
            "transcription_session.update": self._update,
        }

    @property
    def options(self) -> StreamOptions:
        return self.config.options

    # --- from the client ------------------------------------------------------------------------------------------

    def parse(self, frame: str | bytes) -> Iterable[Command]:
        """Raises `InvalidMessage`, `InvalidConfig` or `InvalidAudio`; the stream goes on after any of them."""
        self._event_id = None
        try:
            message = _DECODER.decode(frame if isinstance(frame, str) else frame.decode())
        except (ValueError, RecursionError):
            raise WrongEvent(
                'the event is not JSON; send an object with a "type", audio as base64 in input_audio_buffer.append',
                "invalid_json",
            ) from None
        if not isinstance(message, dict):
            raise WrongEvent('the event is not an object; send one with a "type"', "invalid_json")
        if isinstance(event_id := message.get("event_id"), str):
            self._event_id = _sendable(event_id[:LONGEST_ID])
        kind = message.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise self._unknown(kind)
        return (handler(message),)

    def _unknown(self, kind: object) -> WrongEvent:
        known = ", ".join(self._handlers)
        if kind is None:
            return WrongEvent(f"the event has no type; send one of {known}", "missing_required_parameter", "type")
        name = _sendable(str(kind)[:60])
        if name.startswith(CONVERSATION):
            return WrongEvent(
                f"this server transcribes only, there is no {name}; send one of {known}", "unsupported_event", "type"
            )
        return WrongEvent(f"there is no event {name!r}; send one of {known}", "invalid_value", "type")

    def _append(self, message: Mapping[str, Any]) -> Audio:
        data = message.get("audio")
        if not isinstance(data, str):
            raise WrongEvent("append needs audio, a base64 string", "missing_required_parameter", "audio")
        try:
            audio = binascii.a2b_base64(data, strict_mode=True)
        except ValueError:
            raise WrongEvent("audio is not base64 (RFC 4648, with padding)", "invalid_value", "audio") from None
        self._clock += len(audio) * self._samples_per_byte
        return Audio(audio)

    def _commit(self, _: Mapping[str, Any]) -> Finalize:
        buffered_ms = max(0.0, self._clock - self._buffered_from) * 1000 / RATE
        if buffered_ms < SHORTEST_COMMIT_MS:
            raise WrongEvent(
                f"Error committing input audio buffer: buffer too small. Expected at least {SHORTEST_COMMIT_MS}ms of audio, "
                f"but buffer only has {buffered_ms:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        self._buffered_from = self._clock
        return Finalize()

    def _clear(self, _: Mapping[str, Any]) -> Discard:
        self._buffered_from = self._clock
        return Discard()

    def _update(self, message: Mapping[str, Any]) -> Configure:
        config = self.config.updated(message.get("session"))
        if self._clock:
            self._check_late(config)
        if message["type"] == "transcription_session.update":
            self._beta = True
        self._updated = f"{message['type']}d"
        self.config = config
        self._samples_per_byte = self._pace()
        return Configure(config.options)

    def _check_late(self, config: SessionConfig) -> None:
        """Raises `WrongParameter` for what cannot be changed once audio has come."""
        old, new = self.config.options, config.options
        late = [name for ours, name in SET_BEFORE_AUDIO.items() if getattr(old, ours) != getattr(new, ours)]
        if config.manual != self.config.manual:
            late = ["turn_detection"]
        if late:
            raise WrongParameter(
                self._param(f"audio.input.{late[0]}"),
                f"{', '.join(late)} can only be set before the first audio; open a new connection",
            )

    def _pace(self) -> float:
        audio = self.config.options.audio
        return RATE / (audio.frame_bytes * audio.sample_rate)

    # --- to the client --------------------------------------------------------------------------------------------

    def opened(self, session: Opened, now: str) -> list[Outgoing]:
        self._session = session
        kind = "transcription_session.created" if self._beta and self._intent else "session.created"
        return [self._event(kind, session=self._told(session.model))]

    def check_resumed(self, handshake: Handshake) -> None:
        raise NotImplementedError("OpenAI's sessions end with their connection")

    def resumed(self, session: Opened, held: Held, now: str) -> list[Outgoing]:
        raise NotImplementedError("OpenAI's sessions end with their connection")

    def configured(self, model: str, now: str) -> list[Outgoing]:
        self._in_effect = self.config
        return [self._event(self._updated, session=self._told(model))]

    def refused(self, options: StreamOptions) -> None:
        self.config = self._in_effect
        self._samples_per_byte = self._pace()

    def parted(self, n_channels: int) -> None:
        raise NotImplementedError("channels are always mixed")

    def tell(self, event: Event, channel: int, now: str) -> list[Outgoing]:
        if isinstance(event, SpeechEnded) and not self.config.manual:
            self._buffered_from = max(self._buffered_from, event.at)
        return self._events(self._turns.tell(event, self.config, beta=self._beta))

    def failed(self, error: VoiceForgeError, now: str) -> list[Outgoing]:
        caused_by = None if error.fatal else self._event_id
        return [self._event("error", error=self._described(error) | {"event_id": caused_by})]

    def closed(self, totals: Totals, error: VoiceForgeError | None, now: str) -> list[Outgoing]:
        return self._events(self._turns.failed(self._described(error))) if error else []

    def close_frame(self, error: VoiceForgeError | None) -> tuple[int, str]:
        """1001 after a session's time is over: clients that connect again do so after it."""
        if error is None:
            return 1000, ""
        code = 1001 if isinstance(error, SessionTooLong) else error.close_code
        return code, f"{self._described(error)['code']}: {error}".encode()[:LONGEST_REASON].decode(errors="ignore")

    def _told(self, model: str) -> Body:
        session_id = f"sess_{self._session.session_id.replace('-', '')}"
        limits = {k: v for k, v in self._session.limits.items() if k != "no_data_timeout_s"}  # clients may be silent here
        return self.config.told(session_id, model, limits, flat=self._beta)

    def _event(self, kind: str, **fields: Any) -> Outgoing:
        return Outgoing({"type": kind, "event_id": self._id("event"), **fields})

    def _events(self, bodies: Iterable[Body]) -> list[Outgoing]:
        return [Outgoing({"type": body["type"], "event_id": self._id("event"), **body}) for body in bodies]

    def _id(self, kind: str) -> str:
        self._n_ids += 1
        return f"{kind}_{self._session.session_id.replace('-', '')[:16]}{self._n_ids:06x}"

    def _described(self, error: VoiceForgeError) -> Body:
        body = error_object(error)
        if isinstance(error, WrongEvent):
            return body | {"code": error.openai_code, "param": error.param}
        name = _PARAMS.get(type(error))
        return body | {
            "code": _CODES.get(type(error), body["code"]),
            "param": self._param(name) if name else body["param"],
        }

    def _param(self, name: str) -> str:
        """A setting below `session`, as this client calls it."""
        return f"session.{flat_name(name) if self._beta else name}"


def _sendable(text: str) -> str:
    """Without lone surrogates, which JSON may carry and UTF-8 may not."""
    return text.encode(errors="replace").decode()
