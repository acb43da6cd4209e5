"""One session over as many connections as it takes, whatever the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from frontend.errors import SessionInUse, SlowClient, UnknownSession, VoiceForgeError
from frontend.protocols.base import Wire
from frontend.server.conversation import Conversation
from frontend.server.link import Link, vanished
from frontend.server.outbox import Outbox
from frontend.server.parking import Parking
from frontend.server.sessions import Services

log = logging.getLogger(__name__)

IN_USE = "the session's client is already connected; close that connection, or begin a new session without session="
UNKNOWN = "there is no session of this id and API key that waits for its client; begin a new one, without session="
PONG_S = 1.5
"""What a connection has to answer a ping in, before another one takes its session over."""


class Connection:
    """Carries a conversation. When the client vanishes, and may go on, the conversation waits for another link."""

    def __init__(self, link: Link, wire: Wire, services: Services, session_id: str, parking: Parking[Connection]) -> None:
        self.session_id = session_id
        self.wire, self._services, self._parking = wire, services, parking
        self._settings = services.settings
        self._resumable = wire.options.resumable and self._settings.resume_s > 0
        self._link: Link | None = None
        self._next: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._next.set_result(link)
        self._greeted = self._ended = False
        self._outbox = Outbox(
            self._send, services.metrics, limit=self._settings.max_outbox, patience_s=self._settings.slow_client_s,
            ping=self._ping if self._resumable else None,
        )  # fmt: skip
        self._conversation = Conversation(wire, services, session_id, self._outbox, resumable=self._resumable)

    def drain(self) -> None:
        """The server stops: finish what is running and say goodbye."""
        self._conversation.draining.set()

    async def run(self) -> None:
        """Serves the client until either side ends it; returns with the connection closed."""
        main = asyncio.create_task(self._conversation.serve(), name="session")
        try:
            while True:
                link, self._next = await self._next, asyncio.get_running_loop().create_future()
                try:
                    if not await self._over(link, main):
                        await self._deliver(main)
                        return
                finally:
                    self._link = None
                    link.done.set()
                del link  # and the buffers of its connection
                if not await self._another():
                    self._conversation.count("client_gone")
                    await self._deliver(main)
                    return
        finally:
            self._ended = True
            self._outbox.close()
            if self._next.done():  # too late
                self._next.result().done.set()
            else:
                self._next.cancel()
            tasks = [task for task in (main, self._conversation.reader) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, main: asyncio.Task[VoiceForgeError | None]) -> None:
        """Nobody is left to tell, but a callback still gets its results."""
        if self._conversation.delivers and not main.done():
            self._outbox.close()
            self._conversation.hear_no_more()
            await main

    async def check_vacant(self) -> None:
        """Raises `SessionInUse` while the client is connected, `UnknownSession` when it has ended its session. A connection
        that does not answer is given up."""
        if self._ended:
            raise UnknownSession(UNKNOWN)
        if self._next.done():
            raise SessionInUse(IN_USE)
        if self._link is None:
            return
        ws = self._link.ws
        try:
            async with asyncio.timeout(PONG_S):
                await (await ws.ping())
        except TimeoutError:
            ws.transport.abort()
            return
        except ConnectionClosed as error:
            if vanished(error):
                return
            raise UnknownSession(UNKNOWN) from None
        raise SessionInUse(IN_USE)

    def go_on(self, link: Link) -> None:
        """The client is back. Raises `SessionInUse` when another link was faster, `UnknownSession` when it is too late."""
        if self._ended:
            raise UnknownSession(UNKNOWN)
        if self._next.done():
            raise SessionInUse(IN_USE)
        self._next.set_result(link)

    async def _over(self, link: Link, main: asyncio.Task[VoiceForgeError | None]) -> bool:
        """Serves the client over one connection. Returns whether it has vanished and may come back."""
        if not await link.opened:
            return True
        self._link = link
        if self._greeted:
            self._outbox.again(self._conversation.resumed(), link.after)
        self._greeted = True
        writer = asyncio.create_task(self._outbox.run(), name="outbox")
        self._conversation.listen(link.ws)
        try:
            return await self._served(link.ws, main, writer)
        except ConnectionClosed as error:
            if self._resumable and vanished(error):
                return True
            self._conversation.count("client_gone")
        except SlowClient as error:
            self._services.metrics.errors.labels(error.code).inc()
            log.info("session %s: %s", self.session_id, error)
            link.ws.protocol.fail(error.close_code, str(error)[:120])
            for data in link.ws.protocol.data_to_send():
                link.ws.transport.write(data)
            link.ws.transport.abort()
            if self._resumable and not self._outbox.overflow:
                return True
            self._conversation.count(error.code.lower())
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return False

    async def _served(
        self, ws: ServerConnection, main: asyncio.Task[VoiceForgeError | None], writer: asyncio.Task[None]
    ) -> bool:
        """Raises what breaks the connection."""
        reader = self._conversation.reader
        running: set[asyncio.Task[Any]] = {main, writer, *([reader] if reader else [])}
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if reader in done and not reader.cancelled():
                reader.result()
            if writer in done:  # everything is said, or the client does not read
                writer.result()
                await ws.close(*self.wire.close_frame(main.result()))
                return self._resumable and ws.protocol.close_rcvd is None and self._outbox.n_unknown > 0
            if main in done:
                main.result()
                self._outbox.finish()

    async def _another(self) -> bool:
        """Whether the client comes back in time. What was accepted is worked on meanwhile; then the engine is let go."""
        reader, draining = self._conversation.reader, self._conversation.draining
        with self._parking.place(self._conversation.size) as leave:
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(e.wait()) for e in (leave, draining)]
            tasks.append(asyncio.create_task(self._conversation.rest(), name="parked"))
            try:
                async with asyncio.timeout(self._settings.resume_s):
                    while not self._next.done() and not leave.is_set() and not draining.is_set():
                        waiting = {self._next, *(t for t in tasks if not t.done())}
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if self._next.done() and reader:  # what has come over the old connection is before the new one's
                        await asyncio.wait({reader})
            except TimeoutError:
                pass
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if reader:
                reader.cancel()
                (problem,) = await asyncio.gather(reader, return_exceptions=True)
                if isinstance(problem, Exception) and not isinstance(problem, ConnectionClosed):
                    raise problem
            self._conversation.reader = None
            return self._next.done()

    async def _send(self, text: str) -> None:
        assert self._link
        await self._link.ws.send(text)

    async def _ping(self) -> Awaitable[float]:
        assert self._link
        return await self._link.ws.ping()
