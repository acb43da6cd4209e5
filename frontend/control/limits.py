"""Connection slots."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from frontend.errors import TooManyConnections


class ConnectionSlots:
    """At most `limit` at once; held by a context manager, so a failed handshake gives its slot back."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def take(self) -> Generator[None]:
        """Raises `TooManyConnections` when all are taken."""
        if self.used >= self.limit:
            raise TooManyConnections(f"all {self.limit} connections are in use; try again in a few seconds")
        self.used += 1
        try:
            yield
        finally:
            self.used -= 1
