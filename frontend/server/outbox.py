"""What waits to be sent to one client: finals in order, partials replaced by their successors, bounded."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable

from frontend.errors import SlowClient
from frontend.observability.metrics import Metrics
from frontend.protocols.base import Outgoing


class Outbox:
    """`put` never waits. `run` sends until `finish`; it raises `SlowClient` when the client does not read."""

    def __init__(
        self, send: Callable[[str], Awaitable[None]], metrics: Metrics, *, limit: int, patience_s: float | None
    ) -> None:
        self._send, self._metrics, self._limit, self._patience_s = send, metrics, limit, patience_s
        self._waiting: deque[Outgoing] = deque()
        self._wake = asyncio.Event()
        self._finished = False
        self._over = False
        self._overflow = False

    def put(self, message: Outgoing) -> None:
        """Queues a message; a partial replaces a waiting partial of its segment, and a final makes it pointless.

        After `run` has ended nobody is there to tell.
        """
        if self._over:
            return
        if segment := message.partial_of or message.settles:
            for waiting in reversed(self._waiting):
                if waiting.partial_of == segment:
                    self._waiting.remove(waiting)
                    self._metrics.outbox.dec()
                    break
        if len(self._waiting) >= self._limit:
            self._overflow = True
        else:
            self._waiting.append(message)
            self._metrics.outbox.inc()
        self._wake.set()

    def finish(self) -> None:
        """`run` returns when what waits has been sent."""
        self._finished = True
        self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    if self._overflow:
                        raise SlowClient(
                            f"{self._limit} results wait and are not being read; read the socket as you write to it"
                        )
                    message = self._waiting.popleft()
                    self._metrics.outbox.dec()
                    await self._send_one(message)
                if self._finished:
                    return
        finally:
            self._over = True
            self._metrics.outbox.dec(len(self._waiting))
            self._waiting.clear()

    async def _send_one(self, message: Outgoing) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._send(json.dumps(message.body, ensure_ascii=False))
        except TimeoutError:
            raise SlowClient(
                f"results were not read for {self._patience_s:.0f} s; read the socket as you write to it"
            ) from None
