"""WebSocket handshakes on uvicorn's port: `websockets`' own connection, with no ASGI in the audio path.

uvicorn parses the request, sees an upgrade and hands the transport to the class that `protocol_class` makes; that class
is a `websockets` `ServerConnection`, whose `server` is our `Gateway`.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
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
from frontend.protocols.config import StreamConfig, from_query
from frontend.server.connection import NativeConnection, Services

log = logging.getLogger(__name__)

PATH = "/ws/v1/transcribe"
RETRY_AFTER_S = 5
CLOSE_TIMEOUT_S = 5


class NotFound(VoiceForgeError):
    """A WebSocket path that is none of ours."""

    code, close_code, status = "NOT_FOUND", 1008, 404


class Gateway:
    """Accepts or refuses handshakes and runs accepted connections; what `ServerConnection` calls its server."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services, self._authenticator = services, authenticator
        self.slots = ConnectionSlots(services.settings.max_connections)
        self.handler_tasks: set[asyncio.Task[None]] = set()
        self._connections: set[NativeConnection] = set()
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
        config = StreamConfig()
        try:
            with ExitStack() as held:

                def decide(_: ServerConnection, request: Request) -> Response | None:
                    nonlocal config
                    try:
                        config = self._admit(ws, request, held)
                    except VoiceForgeError as error:
                        return self._refuse(error)
                    return None

                async with asyncio.timeout(self._services.settings.handshake_timeout_s):
                    await ws.handshake(process_request=decide, server_header="VoiceForge")
                if ws.protocol.state is not State.OPEN:
                    return
                ws.start_keepalive()
                await self._run(NativeConnection(ws, config, self._services))
        except Exception:
            log.exception("connection failed")
        finally:
            if ws.protocol.state is not State.CLOSED:
                ws.transport.abort()
            task = asyncio.current_task()
            assert task
            self.handler_tasks.discard(task)

    async def _run(self, connection: NativeConnection) -> None:
        self._connections.add(connection)
        self._services.metrics.connections.inc()
        try:
            await connection.run()
        finally:
            self._services.metrics.connections.dec()
            self._connections.discard(connection)

    def _admit(self, ws: ServerConnection, request: Request, held: ExitStack) -> StreamConfig:
        """The settings of an accepted handshake; its slot is held by `held`. Raises what the refusal says."""
        if self.draining:
            raise ShuttingDown("the server is shutting down; connect again in a few seconds")
        url = urlsplit(request.path)
        if url.path != PATH:
            raise NotFound(f"there is no {url.path}; connect to {PATH}")
        query = parse_qs(url.query, keep_blank_values=True)
        self._authenticator.check(
            query_key=query.get("api_key", [None])[-1],
            authorization=request.headers.get("Authorization"),
            peer=ws.remote_address[0] if ws.remote_address else "",
            origin=request.headers.get("Origin"),
            host=request.headers.get("Host"),
        )
        config = from_query(query)
        self._services.window_s(config.model or self._services.default_model)
        self._services.engine.asr_stream(config.model or self._services.default_model, config.language)
        held.enter_context(self.slots.take())
        return config

    def _refuse(self, error: VoiceForgeError) -> Response:
        self._services.metrics.refused.labels(error.code).inc()
        detail = {"code": error.code, "message": str(error), "retryable": error.retryable, "fatal": True}
        body = (json.dumps({"type": "error", "error": detail}) + "\n").encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        if error.retryable:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return Response(error.status, http.HTTPStatus(error.status).phrase, headers, body)

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
