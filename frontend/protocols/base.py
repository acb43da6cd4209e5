"""What every wire has in common: how a handshake is read, what a client may ask, how it is told. Pure.

An `Adapter` stands for a path of the server; for each accepted handshake it makes a `Wire`, which turns frames into
commands and events into messages, and keeps whatever state its protocol needs. A new protocol is a module with these
two, and a line in `frontend/app.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from frontend.audio.format import AudioFormat
from frontend.errors import VoiceForgeError
from frontend.speech.events import Event
from frontend.speech.stabilizer import Policy
from frontend.text.options import TextOptions

RATE = 16_000
Body = dict[str, Any]


def seconds(samples: int) -> float:
    """Samples of the stream as seconds, to the millisecond."""
    return round(samples / RATE, 3)


# --- the handshake ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handshake:
    """A WebSocket handshake: `query` by name, `headers` by lower-case name, `subprotocols` in the client's order."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    subprotocols: Sequence[str] = ()

    def last(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else None


@dataclass(frozen=True)
class Refusal:
    """The HTTP answer to a request that is not accepted; `body` becomes JSON. `status` 0 is the error's own."""

    body: Body
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    status: int = 0


@dataclass(frozen=True)
class Resuming:
    """The session that a handshake means to go on with, by a name that only its client knows."""

    session: str
    after: int | None = None
    """The last final that the client got, by its segment; None: whatever it is not known to have got is told again."""
    must: bool = True
    """Without such a session the handshake is refused; otherwise it begins one of this name."""


# --- the session that a client wants ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Callback:
    """Where results are sent instead of to the client."""

    url: str
    method: str = "POST"


@dataclass(frozen=True)
class StreamOptions:
    """A session's settings, whatever the wire calls them. `model` None is the server's default."""

    audio: AudioFormat = field(default_factory=AudioFormat)
    model: str | None = None
    language: str = "en"
    """A code; `auto`: found once, in the first utterance; `multi`: found for each utterance."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """`translate`: the text is English, whatever was said."""
    alternatives: int = 0
    """Up to so many for each word of low confidence, in finals."""
    stability: Policy = "local_agreement"
    """How words of partials are found to be settled."""
    interim_results: bool = True
    vad_enabled: bool = True
    vad_threshold: float | None = None
    """Speech probability above which a frame is speech; None is the default of `VadSettings`."""
    pre_roll_ms: int | None = None
    endpointing_ms: int = 500
    utterance_end_ms: int | None = None
    """Tell `UtteranceEnded` when so much time has passed since the last word; None does not."""
    multichannel: bool = False
    """A session for each channel, instead of one for their mix."""
    text: TextOptions = field(default_factory=TextOptions)
    callback: Callback | None = None
    resumable: bool = False
    """The session waits for a client that vanishes."""
    must_send: bool = True
    """A client that sends nothing for long is taken for gone; otherwise pings alone tell."""

    @property
    def n_channels(self) -> int:
        """Sessions at the start; a container may turn out to have more channels (`Wire.parted`)."""
        return self.audio.channels if self.multichannel and not self.audio.contained else 1


# --- what clients ask for -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outgoing:
    """A message for the client. One with `partial_of` is replaced, while it waits, by the next of that segment, and is
    dropped when one that `settles` the segment comes; a segment is (channel, number). Others but a `greeting` are told again
    over a new connection, when the one before broke and they may not have arrived."""

    body: Body
    partial_of: tuple[int, int] | None = None
    settles: tuple[int, int] | None = None
    greeting: bool = False


@dataclass(frozen=True)
class Audio:
    data: bytes


@dataclass(frozen=True)
class Configure:
    """Settings for what follows; answered by `Wire.configured`, or an error and the old settings stay."""

    options: StreamOptions


@dataclass(frozen=True)
class KeepAlive:
    pass


@dataclass(frozen=True)
class Finalize:
    """A final now, for everything that was sent; of one channel, or of all."""

    channel: int | None = None


@dataclass(frozen=True)
class Discard:
    """What was sent and has no final yet is forgotten."""


@dataclass(frozen=True)
class Reply:
    """Nothing for the session to do; the client gets an answer."""

    messages: tuple[Outgoing, ...]


@dataclass(frozen=True)
class CloseStream:
    pass


Command = Audio | Configure | KeepAlive | Finalize | Discard | Reply | CloseStream


# --- what clients are told ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A session that was accepted. `session_id` is a UUID; `limits` by name, with units in the names."""

    session_id: str
    model: str
    limits: Mapping[str, float]
    created: str


@dataclass(frozen=True)
class Held:
    """The audio that the server has taken, so that a client can send what was lost: from there on. `samples` of each
    channel, at the client's rate, of raw audio; `bytes` of any."""

    bytes: int
    samples: int | None


@dataclass(frozen=True)
class Totals:
    """A session's sums. `speech` and `received` are samples."""

    received: int = 0
    speech: int = 0
    n_partials: int = 0
    n_finals: int = 0
    engine_ms: float = 0.0
    """What encoding and decoding took, of the results that were told."""
    lag_ms: tuple[float, float] | None = None
    """Of the finals, the 50th and the 95th percentile; None without any."""


class Wire(Protocol):
    """One client's protocol state. `now` is the server's clock: ISO 8601 in UTC, with milliseconds."""

    @property
    def options(self) -> StreamOptions:
        """What the client has asked for so far."""
        ...

    def parse(self, frame: str | bytes) -> Iterable[Command]:
        """Raises a `VoiceForgeError`; the session ends with it when it is fatal, else the stream goes on."""
        ...

    def opened(self, session: Opened, now: str) -> list[Outgoing]: ...

    def check_resumed(self, handshake: Handshake) -> None:
        """Raises `SessionDiffers` when a client that goes on with the session asks for other settings."""
        ...

    def resumed(self, session: Opened, held: Held, now: str) -> list[Outgoing]:
        """The client is back: greetings."""
        ...

    def configured(self, model: str, now: str) -> list[Outgoing]: ...

    def refused(self, options: StreamOptions) -> None:
        """A `Configure` could not be carried out: `options` are in effect still."""
        ...

    def parted(self, n_channels: int) -> None:
        """There are so many channels apart, before the first event of any."""
        ...

    def tell(self, event: Event, channel: int, now: str) -> list[Outgoing]: ...

    def failed(self, error: VoiceForgeError, now: str) -> list[Outgoing]: ...

    def closed(self, totals: Totals, error: VoiceForgeError | None, now: str) -> list[Outgoing]:
        """The last messages; `error` is what ended the session, None when the client closed it."""
        ...

    def close_frame(self, error: VoiceForgeError | None) -> tuple[int, str]:
        """Close code and reason (123 bytes at most)."""
        ...


class Adapter(Protocol):
    """A path, or several, of the server."""

    @property
    def paths(self) -> tuple[str, ...]: ...

    def key(self, handshake: Handshake) -> str | None:
        """The API key that the client shows, wherever this protocol puts it."""
        ...

    def subprotocol(self, handshake: Handshake) -> str | None:
        """The subprotocol to select."""
        ...

    def headers(self, request_id: str) -> Mapping[str, str]:
        """What the answer to an accepted handshake carries besides."""
        ...

    def resuming(self, handshake: Handshake) -> Resuming | None:
        """Raises `InvalidConfig` for what names no session."""
        ...

    def wire(self, handshake: Handshake) -> Wire:
        """Raises a `VoiceForgeError` for settings that cannot be."""
        ...

    def refusal(self, error: VoiceForgeError, request_id: str) -> Refusal: ...
