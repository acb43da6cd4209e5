"""Sessions that a client may go on with after its connection broke, and the bounds on those that wait for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

from frontend.observability.metrics import Metrics

Owner = tuple[str, bytes, str]
"""Who may go on with a session: path, digest of the API key, name."""
Session = TypeVar("Session")


def owner(path: str, key: str | None, name: str) -> Owner:
    return path, hashlib.sha256((key or "").encode()).digest(), name


class Parking(Generic[Session]):
    """`memory_bytes`: of all that wait together. The one that has waited longest makes room."""

    def __init__(self, metrics: Metrics, *, limit: int, memory_bytes: int) -> None:
        self._metrics, self._limit, self._memory = metrics, limit, memory_bytes
        self._sessions: dict[Owner, list[Session]] = {}
        self._waiting: dict[asyncio.Event, int] = {}
        """By their events, how large they are; the oldest first."""

    @contextmanager
    def known(self, who: Owner, session: Session) -> Generator[None]:
        """The session can be found."""
        self._sessions.setdefault(who, []).append(session)
        try:
            yield
        finally:
            self._sessions[who].remove(session)
            if not self._sessions[who]:
                del self._sessions[who]

    def find(self, who: Owner) -> list[Session]:
        return list(self._sessions.get(who, []))

    @contextmanager
    def place(self, size: int) -> Generator[asyncio.Event]:
        """For a session of so many bytes to wait. The event tells it to leave, perhaps at once."""
        leave = asyncio.Event()
        self._waiting[leave] = size
        self._metrics.parked.inc()
        staying = [place for place in self._waiting if not place.is_set()]
        while staying and (len(staying) > self._limit or sum(self._waiting[p] for p in staying) > self._memory):
            staying.pop(0).set()
        try:
            yield leave
        finally:
            del self._waiting[leave]
            self._metrics.parked.dec()
