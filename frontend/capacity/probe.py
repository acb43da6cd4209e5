"""Reads the metrics of a running server, and finds out before any load whether it can be measured at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from frontend.capacity.exposition import Exposition, parse, together
from frontend.capacity.figures import HANG_S, Reading
from frontend.capacity.stream import authorization, refused_with

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
STREAM = "/ws/v1/transcribe"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
OURS, TRITONS = "voiceforge_engine_lag_seconds", "nv_inference_exec_count"
"""By which the two expositions are known."""


class CannotMeasure(Exception):
    """The message says what is wrong and what to do."""


@dataclass(frozen=True)
class Target:
    """`base`: ws://HOST:PORT. `tritons`: URLs of their metrics."""

    base: str
    metrics: str
    tritons: Sequence[str]
    key: str | None = None
    model: str | None = None

    @classmethod
    def of(cls, url: str, tritons: str, metrics: str | None, key: str | None, model: str | None) -> Target:
        """Raises `CannotMeasure`."""
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise CannotMeasure(f"{url} is no URL of a server; give --url ws://HOST:PORT")
        places = [t.strip() for t in tritons.split(",") if t.strip()]
        if not places:
            raise CannotMeasure("no Triton metrics; give --triton-metrics http://HOST:8002/metrics")
        s = "s" if parts.scheme in ("wss", "https") else ""
        return cls(f"ws{s}://{parts.netloc}", metrics or f"http{s}://{parts.netloc}/metrics", places, key, model)

    @property
    def stream(self) -> str:
        query = {"endpointing_ms": round(1000 * HANG_S)} | ({"model": self.model} if self.model else {})
        return f"{self.base}{STREAM}?{urlencode(query)}"

    @property
    def local(self) -> bool:
        """The server shares this machine's cores."""
        return urlsplit(self.base).hostname in LOOPBACK


class Probe:
    """Both servers' metrics. Use as a context manager."""

    def __init__(self, target: Target) -> None:
        self._target, self._client = target, httpx.Client(timeout=TIMEOUT_S)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self) -> Reading:
        """Raises `CannotMeasure`."""
        front = self._get(self._target.metrics, OURS, "the front end's metrics; give their URL with --metrics")
        about = "Triton's metrics; give their URL with --triton-metrics (`voiceforge serve` says it)"
        return Reading(front, together({url: self._get(url, TRITONS, about) for url in self._target.tritons}))

    def _get(self, url: str, known_by: str, about: str) -> Exposition:
        try:
            text = self._client.get(url).raise_for_status().text
            found = parse(text, time.perf_counter())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CannotMeasure(f"{url} does not answer ({error}); it should be {about}") from None
        except ValueError:
            raise CannotMeasure(f"{url} does not tell metrics; it should be {about}") from None
        if known_by not in found:
            raise CannotMeasure(f"{url} has no {known_by}; it should be {about}")
        return found

    async def during(self, work: asyncio.Future[Any], every_s: float = 1.0) -> list[Reading]:
        """Readings until the work is done, one of them after it. Raises `CannotMeasure` when the last one fails.

        In a thread: reading must not keep streams from their time. One that fails meanwhile is left out.
        """
        readings: list[Reading] = []
        while not work.done():
            await asyncio.wait({work}, timeout=every_s)
            try:
                readings.append(await asyncio.to_thread(self.read))
            except CannotMeasure as error:
                log.warning("%s", error)
        return [*readings, await asyncio.to_thread(self.read)]


async def check_stream(target: Target) -> None:
    """One session, opened and closed. Raises `CannotMeasure`."""
    try:
        async with connect(target.stream, additional_headers=authorization(target.key), open_timeout=TIMEOUT_S) as ws:
            async with asyncio.timeout(TIMEOUT_S):
                await ws.recv()
            await ws.send('{"type":"close_stream"}')
    except InvalidStatus as refusal:
        code, message = refused_with(refusal)
        hint = "; give a key of the server with --key" if code == "UNAUTHORIZED" else ""
        raise CannotMeasure(f"{target.base} refuses streams: {code}, {message}{hint}") from None
    except (OSError, TimeoutError, WebSocketException) as error:
        raise CannotMeasure(f"{target.base} does not take streams ({error or type(error).__name__})") from None
