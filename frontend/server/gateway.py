"""WebSocket handshakes on uvicorn's port: `websockets`' own connection, with no ASGI in the audio path.

uvicorn parses the request, sees an upgrade and hands the transport to the class that `protocol_class` makes; that class
is a `websockets` `ServerConnection`, whose `server` is our `Gateway`.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
import uuid
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
from frontend.errors import ShuttingDown, VoiceForgeError
from frontend.protocols.base import Adapter, Handshake, Refusal, Wire
from frontend.server.connection import Connection
from frontend.server.sessions import Services, asr_stream

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
CLOSE_TIMEOUT_S = 5


class NotFound(VoiceForgeError):
    """A WebSocket path that is none of ours."""

    code, close_code, status = "NOT_FOUND", 1008, 404


class Gateway:
    """Accepts or refuses handshakes and runs accepted connections; what `ServerConnection` calls its server."""

    def __init__(self, services: Services, authenticator: Authenticator, adapters: Sequence[Adapter]) -> None:
        self._services, self.authenticator = services, authenticator
        self._adapters = {path: adapter for adapter in adapters for path in adapter.paths}
        self.slots = ConnectionSlots(services.settings.max_connections)
        self.handler_tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
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
        try:
            with ExitStack() as held:
                wire: Wire | None = None
                session_id, headers = str(uuid.uuid4()), dict[str, str]()

                def decide(_: ServerConnection, request: Request) -> Response | None:
                    nonlocal wire
                    handshake = _handshake(request)
                    adapter = self._adapters.get(handshake.path)
                    try:
                        if adapter is None:
                            raise NotFound(f"there is no {handshake.path}; connect to {' or '.join(self._adapters)}")
                        ws.protocol.select_subprotocol = lambda *_: adapter.subprotocol(handshake)  # type: ignore[method-assign]
                        wire = self._admit(ws, handshake, adapter, held)
                        headers.update(adapter.headers(session_id))
                    except VoiceForgeError as error:
                        return self._refuse(error, adapter or self._adapters[next(iter(self._adapters))], session_id)
                    return None

                def greet(_: ServerConnection, request: Request, response: Response) -> None:
                    response.headers.update(headers)

                async with asyncio.timeout(self._services.settings.handshake_timeout_s):
                    await ws.handshake(process_request=decide, process_response=greet, server_header="VoiceForge")
                if ws.protocol.state is not State.OPEN:
                    return
                assert wire
                ws.start_keepalive()
                await self._run(Connection(ws, wire, self._services, session_id))
        except Exception:
            log.exception("connection failed")
        finally:
            if ws.protocol.state is not State.CLOSED:
                ws.transport.abort()
            task = asyncio.current_task()
            assert task
            self.handler_tasks.discard(task)

    async def _run(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._services.metrics.connections.inc()
        try:
            await connection.run()
        finally:
            self._services.metrics.connections.dec()
            self._connections.discard(connection)

    def _admit(self, ws: ServerConnection, handshake: Handshake, adapter: Adapter, held: ExitStack) -> Wire:
        """The wire of an accepted handshake; its slot is held by `held`. Raises what the refusal says."""
        if self.draining:
            raise ShuttingDown("the server is shutting down; connect again in a few seconds")
        self.authenticator.check(
            adapter.key(handshake),
            peer=ws.remote_address[0] if ws.remote_address else "",
            origin=handshake.headers.get("origin"),
            host=handshake.headers.get("host"),
        )
        wire = adapter.wire(handshake)
        asr_stream(self._services, wire.options)
        if wire.options.callback:
            self._services.web.check(wire.options.callback.url)
        self._services.load.admit()
        held.enter_context(self.slots.take())
        return wire

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
        if self.handler_tasks:
            _, late = await asyncio.wait(self.handler_tasks, timeout=timeout_s)
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
