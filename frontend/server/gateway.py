"""WebSocket handshakes on uvicorn's port: `websockets`' own connection, with no ASGI in the audio path.

uvicorn parses the request, sees an upgrade and hands the transport to the class that `protocol_class` makes; that class
is a `websockets` `ServerConnection`, whose `server` is our `Gateway`.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from frontend.control.auth import Authenticator
from frontend.control.limits import ConnectionSlots
from frontend.errors import SessionDiffers, SessionInUse, ShuttingDown, UnknownSession, VoiceForgeError
from frontend.protocols.base import Adapter, Handshake, Refusal
from frontend.server.connection import UNKNOWN, Connection
from frontend.server.link import Link
from frontend.server.parking import Owner, Parking, owner
from frontend.server.sessions import Services, asr_stream
from frontend.server.siblings import Siblings, session_id
from frontend.server.tunnel import tunnel

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
CLOSE_TIMEOUT_S = 5


class NotFound(VoiceForgeError):
    """A WebSocket path that is none of ours."""

    code, close_code, status = "NOT_FOUND", 1008, 404


class Gateway:
    """Accepts or refuses handshakes and runs accepted connections; what `ServerConnection` calls its server."""

    def __init__(
        self,
        services: Services,
        authenticator: Authenticator,
        adapters: Sequence[Adapter],
        siblings: Siblings | None = None,
    ) -> None:
        self._services, self.authenticator, self._siblings = services, authenticator, siblings
        self._adapters = {path: adapter for adapter in adapters for path in adapter.paths}
        self.slots = ConnectionSlots(services.settings.max_connections)
        self.handler_tasks: set[asyncio.Task[None]] = set()
        self.session_tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        settings = services.settings
        self._parking = Parking[Connection](
            services.metrics, limit=settings.max_parked, memory_bytes=settings.parked_memory_mb * 2**20
        )
        self.draining = False

    def is_serving(self) -> bool:
        return not self.draining

    def protocol_class(self) -> type[ServerConnection]:
        """The class to give uvicorn as `ws=`."""
        gateway, settings = self, self._services.settings

        class UpgradedConnection(ServerConnection):
            def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
                protocol = ServerProtocol(max_size=4 * settings.max_frame_bytes)  # above our own limit: ours explains itself
                super().__init__(
                    protocol,
                    gateway,  # type: ignore[arg-type]
                    ping_interval=settings.ping_interval_s,
                    ping_timeout=settings.ping_interval_s,
                    close_timeout=CLOSE_TIMEOUT_S,
                    max_queue=4,
                )

        return UpgradedConnection

    async def handler(self, ws: ServerConnection) -> None:
        """The life of one connection. Called by `ServerConnection.connection_made`."""
        link = Link(ws)
        try:
            if self._siblings and await self._handed_over(ws):
                return
            with ExitStack() as held:
                connection: Connection | None = None
                headers = dict[str, str]()

                async def decide(_: ServerConnection, request: Request) -> Response | None:
                    nonlocal connection
                    handshake = _handshake(request)
                    adapter = self._adapters.get(handshake.path)
                    new_id = session_id(int(self._siblings.name) if self._siblings else 0)
                    try:
                        if adapter is None:
                            raise NotFound(f"there is no {handshake.path}; connect to {' or '.join(self._adapters)}")
                        ws.protocol.select_subprotocol = lambda *_: adapter.subprotocol(handshake)  # type: ignore[method-assign]
                        connection = await self._admit(link, handshake, adapter, new_id, held)
                        headers.update(adapter.headers(connection.session_id))
                    except VoiceForgeError as error:
                        return self._refuse(error, adapter or self._adapters[next(iter(self._adapters))], new_id)
                    return None

                def greet(_: ServerConnection, request: Request, response: Response) -> None:
                    response.headers.update(headers)

                async with asyncio.timeout(self._services.settings.handshake_timeout_s):
                    await ws.handshake(process_request=decide, process_response=greet, server_header="VoiceForge")
                if ws.protocol.state is not State.OPEN:
                    return
                assert connection
                ws.start_keepalive()
                link.opened.set_result(True)
                self._services.metrics.connections.inc()
                try:
                    await link.done.wait()
                finally:
                    self._services.metrics.connections.dec()
        except Exception:
            log.exception("connection failed")
        finally:
            if not link.opened.done():
                link.opened.set_result(False)
            if ws.protocol.state is not State.CLOSED:
                ws.transport.abort()
            task = asyncio.current_task()
            assert task
            self.handler_tasks.discard(task)

    async def _run(self, connection: Connection, link: Link, who: Owner) -> None:
        """The life of a session, which may outlast its connection."""
        self._connections.add(connection)
        try:
            if await link.opened:
                with self._parking.known(who, connection):
                    await connection.run()
        except Exception:
            log.exception("session %s failed", connection.session_id)
        finally:
            link.done.set()
            self._connections.discard(connection)

    async def _admit(self, link: Link, handshake: Handshake, adapter: Adapter, new_id: str, held: ExitStack) -> Connection:
        """The session of an accepted handshake; `held` holds a slot for the connection. Raises what the refusal says."""
        if self.draining:
            raise ShuttingDown("the server is shutting down; connect again in a few seconds")
        key = self._check_key(link.ws, handshake, adapter)
        resuming = adapter.resuming(handshake)
        who = owner(handshake.path, key, resuming.session if resuming else new_id)
        if resuming and (connection := await self._waiting(who, handshake, must=resuming.must)):
            held.enter_context(self.slots.take())
            link.after = resuming.after
            connection.go_on(link)
            return connection
        wire = adapter.wire(handshake)
        asr_stream(self._services, wire.options)
        if wire.options.callback:
            self._services.web.check(wire.options.callback.url)
        self._services.load.admit()
        held.enter_context(self.slots.take())
        connection = Connection(link, wire, self._services, new_id, self._parking)
        task = asyncio.create_task(self._run(connection, link, who), name=f"session {new_id}")
        self.session_tasks.add(task)
        task.add_done_callback(self.session_tasks.discard)
        return connection

    def _check_key(self, ws: ServerConnection, handshake: Handshake, adapter: Adapter) -> str | None:
        """Raises `Unauthorized`."""
        key = adapter.key(handshake)
        self.authenticator.check(
            key,
            peer=ws.remote_address[0] if ws.remote_address else "",
            origin=handshake.headers.get("origin"),
            host=handshake.headers.get("host"),
        )
        return key

    async def _handed_over(self, ws: ServerConnection) -> bool:
        """Whether another worker holds the session to go on with, and has served it over this connection. What is wrong with
        the handshake is told by the one that is asked."""
        async with asyncio.timeout(self._services.settings.handshake_timeout_s):
            await asyncio.wait({ws.request_rcvd, ws.connection_lost_waiter}, return_when=asyncio.FIRST_COMPLETED)
        if self._siblings is None or self.draining or ws.request is None:
            return False
        handshake = _handshake(ws.request)
        try:
            adapter = self._adapters[handshake.path]
            resuming = adapter.resuming(handshake)
            address = self._siblings.holder(resuming.session) if resuming else None
            if not address:
                return False
            self._check_key(ws, handshake, adapter)
            await tunnel(ws, ws.request, address)
        except (VoiceForgeError, KeyError, OSError):
            return False
        return True

    async def _waiting(self, who: Owner, handshake: Handshake, *, must: bool) -> Connection | None:
        """The session to go on with, when its client is gone. With `must`, raises why there is none."""
        found = self._parking.find(who)
        if not must and len(found) != 1:
            return None  # several streams share a name: nobody knows which one this is
        try:
            if not found:
                raise UnknownSession(UNKNOWN)
            found[0].wire.check_resumed(handshake)
            await found[0].check_vacant()
            return found[0]
        except (SessionDiffers, SessionInUse, UnknownSession):
            if must:
                raise
            return None

    def _refuse(self, error: VoiceForgeError, adapter: Adapter, request_id: str) -> Response:
        self._services.metrics.refused.labels(error.code).inc()
        refusal: Refusal = adapter.refusal(error, request_id)
        status = refusal.status or error.status
        body = (json.dumps(refusal.body) + "\n").encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        headers.update(refusal.headers)
        if error.retryable:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return Response(status, http.HTTPStatus(status).phrase, headers, body)

    async def drain(self, timeout_s: float) -> None:
        """Refuses new connections and waits until the running ones have got their finals, or the time is up."""
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        if running := self.handler_tasks | self.session_tasks:
            _, late = await asyncio.wait(running, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                log.warning("%d connections did not end in %.0f s", len(late), timeout_s)
                await asyncio.wait(late, timeout=5)


def _handshake(request: Request) -> Handshake:
    url = urlsplit(request.path)
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    offered = headers.get("sec-websocket-protocol", "")
    return Handshake(
        url.path,
        parse_qs(url.query, keep_blank_values=True),
        headers,
        [part.strip() for part in offered.split(",") if part.strip()],
    )
