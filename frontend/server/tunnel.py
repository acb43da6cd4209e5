"""A WebSocket connection handed over to another worker as it is: bytes, so that pings, pongs, close codes and breaks are
between the client and that worker."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request


class _End(asyncio.Protocol):
    """What comes here goes to the other end, as fast as that takes it."""

    other: asyncio.Transport | None = None

    def __init__(self, lost: asyncio.Event) -> None:
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        assert self.other
        self.other.write(data)

    def pause_writing(self) -> None:
        assert self.other
        self.other.pause_reading()

    def resume_writing(self) -> None:
        assert self.other
        self.other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other:
            self.other.close()
        self._lost.set()


async def tunnel(ws: ServerConnection, request: Request, address: str) -> None:
    """Sends the handshake `request` on to the worker at `address`, http://HOST:PORT; returns when the connection is over.

    Raises `OSError` when that does not listen; nothing has been answered then.
    """
    host, _, port = urlsplit(address).netloc.partition(":")
    lost = asyncio.Event()
    client, worker = _End(lost), _End(lost)
    onward, _ = await asyncio.get_running_loop().create_connection(lambda: worker, host, int(port))
    if ws.transport.is_closing():  # the client did not wait
        onward.abort()
        return
    client.other, worker.other = onward, ws.transport
    ws.transport.set_protocol(client)
    try:
        onward.write(request.serialize())
        await lost.wait()
    finally:
        onward.close()
        ws.transport.close()
