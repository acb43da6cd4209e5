"""What clients ask for, whatever the wire."""

from __future__ import annotations

from dataclasses import dataclass

from frontend.protocols.config import StreamConfig


@dataclass(frozen=True)
class Configure:
    config: StreamConfig


@dataclass(frozen=True)
class Audio:
    data: bytes


@dataclass(frozen=True)
class KeepAlive:
    pass


@dataclass(frozen=True)
class Finalize:
    pass


@dataclass(frozen=True)
class CloseStream:
    pass


Command = Configure | Audio | KeepAlive | Finalize | CloseStream
