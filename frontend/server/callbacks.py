"""Results sent to a URL of the client's instead of to the client: in order, signed, again when it does not take them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType

import httpx

from frontend.errors import CallbackFailed, SlowClient, UnusableUrl
from frontend.observability.metrics import Metrics
from frontend.protocols.base import Callback
from frontend.server.outbox import Outbox
from frontend.server.web import Web
from frontend.settings import Settings

log = logging.getLogger(__name__)

SIGNATURE = "VoiceForge-Signature"
LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer's body that are read, to throw away."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


def signature(secret: str, body: bytes, at: int) -> str:
    """HMAC-SHA256 over the time (Unix seconds), a dot and the body, so that an old message cannot be sent again."""
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class CallbackSender:
    """One URL. An async context: the connection is kept between messages."""

    def __init__(self, web: Web, callback: Callback, request_id: str, settings: Settings, metrics: Metrics) -> None:
        self._web, self._callback, self._request_id = web, callback, request_id
        self._settings, self._metrics = settings, metrics
        self._client = web.client()

    async def __aenter__(self) -> CallbackSender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(self, text: str) -> None:
        """Raises `CallbackFailed` after the last try, `UnusableUrl` for an address that is not allowed."""
        attempts = self._settings.callback_attempts
        for attempt in range(attempts):
            problem = await self._try(text.encode())
            if problem is None:
                self._metrics.callbacks.labels("delivered").inc()
                return
            log.info("callback of %s, attempt %d: %s", self._request_id, attempt + 1, problem)
            if attempt + 1 < attempts:
                wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
                await asyncio.sleep(wait * random.uniform(0.8, 1.2))
        self._metrics.callbacks.labels("failed").inc()
        raise CallbackFailed(f"the callback did not take a result in {attempts} attempts; it must answer with 2xx")

    async def _try(self, body: bytes) -> str | None:
        """What went wrong."""
        headers = {"Content-Type": "application/json", "dg-request-id": self._request_id}
        if secret := self._settings.callback_secret:
            headers[SIGNATURE] = signature(secret.get_secret_value(), body, int(time.time()))
        try:
            url, method = self._callback.url, self._callback.method
            request = await self._web.request(self._client, method, url, headers, body)
            response = await self._client.send(request, stream=True)
            await _drained(response)
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        except UnusableUrl as error:
            if isinstance(error.__cause__, OSError):  # the name may be found later
                return str(error)
            raise
        return None if response.is_success else f"it answered {response.status_code}"


async def _drained(response: httpx.Response) -> None:
    """Reads a short answer to its end, so that the connection can be used again; a long one is cut off."""
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > LONGEST_ANSWER:
            break
    await response.aclose()


class Delivery:
    """Results of a stream on their way to its callback: in order, as many waiting as wait for a client."""

    def __init__(self, sender: CallbackSender, settings: Settings, metrics: Metrics) -> None:
        self.outbox = Outbox(sender.send, metrics, limit=settings.max_outbox, patience_s=None)
        self.task = asyncio.create_task(self._run(settings.max_outbox), name="callback")
        """Ends when everything is delivered after `outbox.finish`; raises when something cannot be."""

    async def _run(self, limit: int) -> None:
        try:
            await self.outbox.run()
        except SlowClient:
            raise CallbackFailed(f"{limit} results wait for the callback; it must take them faster") from None


@asynccontextmanager
async def delivering(
    web: Web, callback: Callback, request_id: str, settings: Settings, metrics: Metrics
) -> AsyncGenerator[Delivery]:
    async with CallbackSender(web, callback, request_id, settings, metrics) as sender:
        delivery = Delivery(sender, settings, metrics)
        try:
            yield delivery
        finally:
            delivery.task.cancel()
            await asyncio.gather(delivery.task, return_exceptions=True)
