"""What waits to be sent to one client: finals in order, partials replaced by their successors, bounded."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from frontend.errors import SlowClient
from frontend.observability.metrics import Metrics
from frontend.protocols.base import Outgoing

KEPT = 32
"""Messages that are kept although they are known to have arrived: at a client, which may have lost them since."""


@dataclass(frozen=True)
class _Written:
    """A message as it is sent. `settled`: the segment of a final; `kept`: until it is known to have arrived."""

    text: str
    settled: int | None
    kept: bool


class Outbox:
    """`put` never waits. `run` sends until `finish`; it raises `SlowClient` when the client does not read.

    With `ping`, which sends a WebSocket ping and returns what ends with its pong, the connection may break and `run` may be
    called again for the next one, after `again`: whatever has not been answered by a pong is sent once more.
    """

    def __init__(
        self, send: Callable[[str], Awaitable[None]], metrics: Metrics, *, limit: int, patience_s: float | None,
        ping: Callable[[], Awaitable[Awaitable[float]]] | None = None,
    ) -> None:  # fmt: skip
        self._send, self._metrics, self._limit, self._patience_s = send, metrics, limit, patience_s
        self._ping = ping
        self._waiting: deque[Outgoing] = deque()
        self._again: deque[_Written] = deque()
        self._sent: deque[_Written] = deque()
        self._n_unknown = 0
        """Of the last sent messages, those of which nobody knows whether they have arrived."""
        self._pinging: asyncio.Future[float] | None = None
        self._wake = asyncio.Event()
        self._finished = False
        self._over = False
        self.overflow = False
        """Something was not taken, so that nobody can go on from here."""

    def put(self, message: Outgoing) -> None:
        """Queues a message; a partial replaces a waiting partial of its segment, and a final makes it pointless.

        After `run` has ended for good nobody is there to tell.
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
            self.overflow = True
        else:
            self._waiting.append(message)
            self._metrics.outbox.inc()
        self._wake.set()

    def finish(self) -> None:
        """`run` returns when what waits has been sent."""
        self._finished = True
        self._wake.set()

    def close(self) -> None:
        """Nobody is there to tell any more."""
        self._over = True
        self._metrics.outbox.dec(len(self._waiting))
        self._waiting.clear()

    def again(self, greetings: Sequence[Outgoing], after: int | None = None) -> None:
        """A new connection begins with greetings, then what may not have arrived over the last one: everything after the
        final of segment `after`, or else after the last pong. Partials are left out: those that waited are old."""
        told = [*self._sent, *(m for m in self._again if m.kept)]
        n_known = len(self._sent) - self._n_unknown
        if after is not None:
            n_known = max((i + 1 for i, m in enumerate(told) if m.settled is not None and m.settled <= after), default=0)
        self._sent, self._n_unknown, self._pinging = deque(told[:n_known]), 0, None
        self._again = deque([*(self._written(g) for g in greetings), *told[n_known:]])
        kept = [m for m in self._waiting if m.partial_of is None and not m.greeting]
        self._metrics.outbox.dec(len(self._waiting) - len(kept))
        self._waiting = deque(kept)
        self._wake.set()

    @property
    def n_unknown(self) -> int:
        """Messages that were sent and are not known to have arrived."""
        return self._n_unknown

    @property
    def size(self) -> int:
        """Characters that are kept."""
        return sum(len(m.text) for m in (*self._sent, *self._again))

    async def run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._again or self._waiting:
                    if self.overflow:
                        raise SlowClient(
                            f"{self._limit} results wait and are not being read; read the socket as you write to it"
                        )
                    if self._again:
                        message = self._again.popleft()
                    else:
                        message = self._written(self._waiting.popleft())
                        self._metrics.outbox.dec()
                    if message.kept:  # from before it is sent: whether it arrives is not known if that fails
                        self._sent.append(message)
                        self._n_unknown += 1
                    await self._patiently(self._send(message.text))
                if self._n_unknown:
                    await self._patiently(self._ask())
                if self._finished:
                    return
        finally:
            if self._ping is None:
                self.close()

    async def _patiently(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await sending
        except TimeoutError:
            raise SlowClient(
                f"results were not read for {self._patience_s:.0f} s; read the socket as you write to it"
            ) from None

    async def _ask(self) -> None:
        """One ping at a time; its pong says that what was sent before has arrived."""
        if self._pinging or not self._ping:
            return
        n = self._n_unknown
        pong = self._pinging = asyncio.ensure_future(await self._ping())

        def answered(_: asyncio.Future[float]) -> None:
            if pong.cancelled() or pong.exception() or pong is not self._pinging:
                return
            self._pinging = None
            self._n_unknown -= n
            while len(self._sent) - self._n_unknown > KEPT:
                self._sent.popleft()
            if self._n_unknown:
                self._wake.set()

        pong.add_done_callback(answered)

    def _written(self, message: Outgoing) -> _Written:
        kept = self._ping is not None and message.partial_of is None and not message.greeting
        settled = message.settles[1] if message.settles else None
        return _Written(json.dumps(message.body, ensure_ascii=False), settled, kept)
