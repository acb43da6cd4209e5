"""Results sent to a client's URL: in order, signed, again when it does not take them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from frontend.errors import CallbackFailed, UnusableUrl
from frontend.observability.metrics import Metrics
from frontend.protocols.base import Callback, Outgoing
from frontend.server import callbacks
from frontend.server.callbacks import CallbackSender, Delivery, delivering, signature
from frontend.server.web import Web, anywhere
from frontend.settings import Settings


@dataclass
class Receiver:
    """An HTTP server on this machine: answers with the statuses in turn, the last one for ever."""

    statuses: list[int]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    connections: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((first.split()[0], headers, body))
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                writer.write(f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def receiver(*statuses: int) -> AsyncIterator[Receiver]:
    """Leave it after its clients: it waits for their connections to close."""
    one = Receiver(list(statuses))
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    async with server:
        one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/results"
        yield one
    await asyncio.gather(*one.connections)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "FIRST_WAIT_S", 0.001)


def sender(url: str, metrics: Metrics | None = None, method: str = "POST", **settings: object) -> CallbackSender:
    return CallbackSender(Web(anywhere), Callback(url, method), "request", Settings(**settings), metrics or Metrics())


def going_to(url: str, **settings: object) -> AbstractAsyncContextManager[Delivery]:
    return delivering(Web(anywhere), Callback(url), "request", Settings(**settings), Metrics())


async def test_a_result_is_posted_as_json_and_signed():
    async with receiver(200) as r, sender(r.url, callback_secret="secret") as s:
        await s.send('{"a":"ü"}')
    ((method, headers, body),) = r.requests
    assert (method, json.loads(body), headers["dg-request-id"]) == ("POST", {"a": "ü"}, "request")
    at, _, digest = headers["voiceforge-signature"].removeprefix("t=").partition(",v1=")
    assert digest == hmac.new(b"secret", f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def test_a_signature_covers_the_body_the_time_and_the_secret():
    assert len({signature(k, b, t) for k in ("a", "b") for b in (b"x", b"y") for t in (1, 2)}) == 8


async def test_without_a_secret_nothing_is_signed():
    async with receiver(204) as r, sender(r.url, method="PUT") as s:
        await s.send("{}")
    ((method, headers, _),) = r.requests
    assert method == "PUT"
    assert "voiceforge-signature" not in headers


@pytest.mark.parametrize("status", [500, 429, 404, 302])
async def test_what_is_not_taken_is_sent_again_and_redirects_are_not_followed(status: int):
    metrics = Metrics()
    async with receiver(status, status, 200) as r, sender(r.url, metrics) as s:
        await s.send("{}")
    assert len(r.requests) == 3
    assert metrics.callbacks.labels("delivered")._value.get() == 1


async def test_after_the_last_try_it_fails():
    metrics = Metrics()
    async with receiver(500) as r, sender(r.url, metrics, callback_attempts=3) as s:
        with pytest.raises(CallbackFailed, match="in 3 attempts"):
            await s.send("{}")
    assert len(r.requests) == 3
    assert metrics.callbacks.labels("failed")._value.get() == 1


async def test_nobody_there_is_tried_again_too():
    async with sender("http://127.0.0.1:9/", callback_attempts=2) as s:
        with pytest.raises(CallbackFailed):
            await s.send("{}")


async def test_an_address_that_is_not_allowed_is_not_tried_again():
    async with CallbackSender(Web(), Callback("http://localhost:9/"), "request", Settings(), Metrics()) as s:
        with pytest.raises(UnusableUrl, match="not public"):
            await s.send("{}")


async def test_results_go_out_in_order_over_one_connection_and_are_all_there_at_the_end():
    async with receiver(500, 200) as r, going_to(r.url) as delivery:
        for i in range(5):
            delivery.outbox.put(Outgoing({"i": i}))
        delivery.outbox.finish()
        await delivery.task
    assert len(r.connections) == 1
    assert [json.loads(body)["i"] for _, _, body in r.requests] == [0, 0, 1, 2, 3, 4]


async def test_a_receiver_that_is_too_slow_is_said():
    async with receiver(500) as r, going_to(r.url, max_outbox=2) as delivery:
        for i in range(5):
            delivery.outbox.put(Outgoing({"i": i}))
        with pytest.raises(CallbackFailed, match="2 results wait for the callback"):
            await delivery.task
