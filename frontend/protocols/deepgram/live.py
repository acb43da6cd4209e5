"""Deepgram's WebSocket: JSON results for audio in binary frames. See docs/deepgram.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
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
    Reply,
    Resuming,
    StreamOptions,
    Totals,
    seconds,
)
from frontend.protocols.deepgram.query import SWITCHES, Listen, sendable, understood
from frontend.protocols.deepgram.refusals import close_frame, refusal, request_id_header
from frontend.protocols.deepgram.results import alternative, model_info, model_uuid, search_results
from frontend.protocols.native import bearer
from frontend.speech.events import Event, Final, NothingSaid, Partial, SpeechStarted, UtteranceEnded
from frontend.text import options as text_options
from frontend.text.pipeline import TextPipeline

PATH = "/v1/listen"
SCHEMES = ("token", "bearer")
"""Subprotocols that a key follows; one of them must be selected, or JavaScript clients fail."""
SESSION = "x-deepgram-session-id"
"""A header, or a subprotocol that the id follows."""
MOST_KEYTERMS = 500
"""Deepgram allows 500 tokens; a term is one at the least."""
LONGEST_ECHO = 500
"""Characters of a message that was not understood, in the error about it."""


class DeepgramAdapter:
    """Key by the `Authorization` header, or by the subprotocols `token, KEY`; settings in the query."""

    paths = (PATH,)

    def __init__(self, *, resume: bool = False) -> None:
        """`resume`: a session goes on when its client connects again. Not one of a container: nobody knows whether what
        comes then is the rest of it or another one."""
        self._resume = resume

    def key(self, handshake: Handshake) -> str | None:
        scheme = self.subprotocol(handshake)
        return bearer(handshake.headers.get("authorization")) or (_following(handshake, scheme) if scheme else None)

    def subprotocol(self, handshake: Handshake) -> str | None:
        return next((offer for offer in handshake.subprotocols if offer in SCHEMES), None)

    def headers(self, request_id: str) -> dict[str, str]:
        return request_id_header(request_id)

    def resuming(self, handshake: Handshake) -> Resuming | None:
        """The clients of Deepgram send an id of their own, the same one when they connect again."""
        session = handshake.headers.get(SESSION) or _following(handshake, SESSION)
        return Resuming(session, must=False) if session and self._resume else None

    def wire(self, handshake: Handshake) -> DeepgramWire:
        listen = understood(handshake.query, "live")
        named = self.resuming(handshake) is not None
        options = replace(listen.options, resumable=named and not listen.options.audio.contained)
        return DeepgramWire(replace(listen, options=options))

    def refusal(self, error: VoiceForgeError, request_id: str) -> Refusal:
        return refusal(error, request_id)


class DeepgramWire:
    """One client. Audio is hashed as it comes, for the `sha256` of the closing `Metadata`."""

    def __init__(self, listen: Listen) -> None:
        self._listen = self._first = listen
        self.options = listen.options
        self._n_channels = listen.options.n_channels
        self._texts = self._pipelines(listen.options)
        self._in_effect = listen.options
        self._finalizes = [0] * self._n_channels
        self._cut: dict[int, Final] = {}
        """The last final of a channel whose utterance goes on."""
        self._sha256 = hashlib.sha256()
        self._last_text = ""
        self._keyterms: list[str] | None = None
        self._opened = Opened("", "", {}, "")
        self._metadata: Body = {}
        self._handlers: dict[str, Callable[[Mapping[str, Any]], Command]] = {
            "KeepAlive": lambda _: KeepAlive(),
            "Finalize": self._finalize,
            "CloseStream": lambda _: CloseStream(),
            "Configure": self._configure,
        }

    # --- from the client ------------------------------------------------------------------------------------------

    def parse(self, frame: str | bytes) -> Iterable[Command]:
        """Raises `InvalidMessage` or `InvalidConfig`; the stream goes on after either."""
        if isinstance(frame, bytes):
            if not frame:
                return (CloseStream(),)
            self._sha256.update(frame)
            return (Audio(frame),)
        self._last_text = frame
        try:
            message = json.loads(frame)
        except (ValueError, RecursionError):
            raise InvalidMessage("could not deserialize the last text message: it is not JSON") from None
        kind = message.get("type") if isinstance(message, dict) else None
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise InvalidMessage(f'the message has no "type" of {", ".join(self._handlers)}; send audio as binary frames')
        return (handler(message),)

    def _finalize(self, message: Mapping[str, Any]) -> Finalize:
        channel = message.get("channel")
        if channel is not None and (type(channel) is not int or not 0 <= channel < self._n_channels):
            raise InvalidMessage(f"channel {str(channel)[:40]} is none of 0 to {self._n_channels - 1}")
        for i in range(self._n_channels) if channel is None else (channel,):
            self._finalizes[i] += 1
        return Finalize(channel)

    def _configure(self, message: Mapping[str, Any]) -> Command:
        """`features`, which the older JavaScript client calls `processors`, and `keyterms`."""
        changes = message.get("features") or message.get("processors") or {}
        keyterms = message.get("keyterms")
        if not isinstance(changes, dict) or not (keyterms is None or _is_texts(keyterms)):
            raise InvalidMessage('a Configure message takes an object "features" and a list of texts "keyterms"')
        if keyterms and len(keyterms) > MOST_KEYTERMS:
            return self._failure(
                "CONFIGURE_KEYTERM_LIMIT_EXCEEDED", f"{len(keyterms)} keyterms; up to {MOST_KEYTERMS} are taken"
            )
        if unknown := [name for name in changes if name not in SWITCHES]:
            return self._failure(
                "CONFIGURE_INTERNAL_ERROR", f"{str(unknown[0])[:40]!r} cannot be changed; {', '.join(SWITCHES)} can"
            )
        try:
            text = text_options.updated(self.options.text, changes)
        except InvalidConfig as error:
            return self._failure("CONFIGURE_INTERNAL_ERROR", str(error))
        self._keyterms = None if keyterms is None else [sendable(term) for term in keyterms]
        self.options = replace(self.options, text=text)
        return Configure(self.options)

    def _failure(self, code: str, description: str) -> Reply:
        body = {"type": "ConfigureFailure", "request_id": self._opened.session_id, "code": code, "description": description}
        return Reply((Outgoing(body),))

    # --- to the client --------------------------------------------------------------------------------------------

    def opened(self, session: Opened, now: str) -> list[Outgoing]:
        """Deepgram says nothing before the first result."""
        self._opened = session
        self._metadata = {
            "request_id": session.session_id,
            "model_info": model_info(session.model),
            "model_uuid": model_uuid(session.model),
        }
        if self._listen.extra:
            self._metadata["extra"] = self._listen.extra
        if self._listen.not_in_effect:
            self._metadata["not_in_effect"] = list(self._listen.not_in_effect)
        return []

    def check_resumed(self, handshake: Handshake) -> None:
        if understood(handshake.query, "live").query != self._first.query:
            raise SessionDiffers("the session has other settings")

    def resumed(self, session: Opened, held: Held, now: str) -> list[Outgoing]:
        return []

    def configured(self, model: str, now: str) -> list[Outgoing]:
        if self.options.text != self._in_effect.text:
            self._texts = self._pipelines(self.options)
        self._in_effect = self.options
        self._listen = replace(self._listen, options=self.options)
        body: Body = {"type": "ConfigureSuccess", "request_id": self._opened.session_id}
        if self._keyterms is not None:
            body["keyterms"] = self._keyterms
            body["not_in_effect"] = ["keyterms"]
        return [Outgoing(body)]

    def refused(self, options: StreamOptions) -> None:
        self.options = self._in_effect

    def parted(self, n_channels: int) -> None:
        self._finalizes += [0] * (n_channels - self._n_channels)
        self._n_channels = n_channels
        self._texts = self._pipelines(self.options)

    def tell(self, event: Event, channel: int, now: str) -> list[Outgoing]:
        match event:
            case Partial():
                return [Outgoing(self._results(event, channel), partial_of=(channel, event.segment))]
            case Final():
                if not event.ends_utterance:
                    self._cut[channel] = event
                elif channel in self._cut:
                    del self._cut[channel]
                return [Outgoing(self._results(event, channel), settles=(channel, event.segment))]
            case NothingSaid(end) if cut := self._cut.pop(channel, None):  # the utterance ended with its cut
                rest = replace(
                    cut, start=cut.end, end=max(end, cut.end), text="", words=(), confidence=0.0, ends_utterance=True
                )
                return [Outgoing(self._results(rest, channel), settles=(channel, cut.segment))]
            case SpeechStarted(at) if self._listen.query.vad_events:
                return [Outgoing({"type": "SpeechStarted", "channel": self._index(channel), "timestamp": seconds(at)})]
            case UtteranceEnded(at):
                return [Outgoing({"type": "UtteranceEnd", "channel": self._index(channel), "last_word_end": seconds(at)})]
            case _:
                return []

    def failed(self, error: VoiceForgeError, now: str) -> list[Outgoing]:
        body: Body = {"type": "Error", "variant": error.code, "description": str(error), "message": str(error)}
        if isinstance(error, InvalidMessage):
            body |= {"variant": "SchemaError", "message": self._last_text[:LONGEST_ECHO]}
        return [Outgoing(body)]

    def closed(self, totals: Totals, error: VoiceForgeError | None, now: str) -> list[Outgoing]:
        model = self._metadata["model_uuid"]
        body: Body = {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._opened.session_id,
            "sha256": self._sha256.hexdigest(),
            "created": self._opened.created,
            "duration": seconds(totals.received),
            "channels": self._n_channels,
            "models": [model],
            "model_info": {model: self._metadata["model_info"]},
        }
        if self._listen.query.tag:
            body["tags"] = list(self._listen.query.tag)
        return [Outgoing(body | {k: v for k, v in self._metadata.items() if k in ("extra", "not_in_effect")})]

    def close_frame(self, error: VoiceForgeError | None) -> tuple[int, str]:
        return close_frame(error)

    def _results(self, event: Partial | Final, channel: int) -> Body:
        final = isinstance(event, Final)
        pipeline = self._texts[channel]
        text = pipeline.final(event.words) if final else pipeline.partial(event.words, event.n_stable)
        told: Body = {"alternatives": [alternative(text, event.confidence, event.language, self._listen)]}
        if text.search:
            told["search"] = search_results(text.search)
        return {
            "type": "Results",
            "channel_index": self._index(channel),
            "duration": seconds(event.end - event.start),
            "start": seconds(event.start),
            "is_final": final,
            "speech_final": final and event.ends_utterance and self._listen.query.endpointing is not False,
            "from_finalize": final and event.requested and self._answers_finalize(channel),
            "channel": told,
            "metadata": self._metadata,
        }

    def _answers_finalize(self, channel: int) -> bool:
        """Requested finals answer the finalizes in their order; one more is the close's."""
        if self._finalizes[channel] == 0:
            return False
        self._finalizes[channel] -= 1
        return True

    def _index(self, channel: int) -> list[int]:
        return [channel, self._n_channels]

    def _pipelines(self, options: StreamOptions) -> list[TextPipeline]:
        return [TextPipeline(options.text, options.language) for _ in range(self._n_channels)]


def _following(handshake: Handshake, name: str) -> str | None:
    """What comes after a subprotocol."""
    offered = list(handshake.subprotocols)
    return next(iter(offered[offered.index(name) + 1 :]), None) if name in offered else None


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
