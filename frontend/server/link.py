"""One of a session's connections, and whether its end was meant to be the session's."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

DELIBERATE = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)
"""Close codes of a client that means to end its session."""


class Link:
    """One connection of a client, for the session that it is meant for. `after`: as in `Resuming`."""

    def __init__(self, ws: ServerConnection, after: int | None = None) -> None:
        self.ws, self.after = ws, after
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether its handshake succeeded."""
        self.done = asyncio.Event()
        """The session does not need it any more."""


def vanished(error: ConnectionClosed) -> bool:
    """Whether the client did not mean to go: no close frame, one of a proxy's, or our own for pings without an answer."""
    if error.rcvd:
        return error.rcvd.code not in DELIBERATE
    return error.sent is None or error.sent.code == CloseCode.INTERNAL_ERROR
