"""HTTP requests that do work: a known key, and a slot like a stream's, held while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from starlette.requests import Request

from frontend.errors import ShuttingDown
from frontend.protocols.native import bearer
from frontend.server.gateway import Gateway


def authenticate(gateway: Gateway, request: Request) -> None:
    """Raises `Unauthorized`."""
    gateway.authenticator.check(
        bearer(request.headers.get("authorization")) or request.query_params.get("api_key"),
        peer=request.client.host if request.client else "",
        origin=request.headers.get("origin"),
        host=request.headers.get("host"),
    )


@contextmanager
def admitted(gateway: Gateway, request: Request) -> Generator[None]:
    """Held while a request is served; a server that stops waits for it as it waits for streams.

    Raises `ShuttingDown`, `Unauthorized` or `TooManyConnections`.
    """
    if gateway.draining:
        raise ShuttingDown("the server is shutting down; try again in a few seconds")
    authenticate(gateway, request)
    task = asyncio.current_task()
    assert task
    with gateway.slots.take():
        gateway.handler_tasks.add(task)
        try:
            yield
        finally:
            gateway.handler_tasks.discard(task)
