"""The server that is measured: where it is, and whether it takes streams at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from frontend.capacity.errors import InvalidOption, ServerUnreachable, StreamsRefused
from frontend.capacity.heard import HANG_S
from frontend.capacity.stream import FULL, authorization, refused_with

TIMEOUT_S = 5.0
STREAM = "/ws/v1/transcribe"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
WHERE_TRITON = "give --triton-metrics: `voiceforge serve` says the URL when it is ready, NVIDIA's image has it at http://HOST:8002/metrics"


@dataclass(frozen=True)
class Target:
    """`base`: ws://HOST:PORT. `tritons`: URLs of their metrics."""

    base: str
    metrics: str
    tritons: Sequence[str]
    key: str | None = None
    model: str | None = None

    @classmethod
    def of(cls, server: str, tritons: str, metrics: str | None, key: str | None, model: str | None) -> Target:
        """From the options. Raises `InvalidOption`."""
        parts = urlsplit(server if "://" in server else f"http://{server}")
        scheme = SCHEMES.get(parts.scheme)
        if scheme is None or not parts.hostname:
            raise InvalidOption(f"--server {server} is no URL of a server; give http://HOST:PORT")
        places = [t.strip() for t in tritons.split(",") if t.strip()]
        if not places:
            raise InvalidOption(f"nobody said where Triton's metrics are; {WHERE_TRITON}")
        told = metrics or f"{scheme.replace('ws', 'http')}://{parts.netloc}/metrics"
        return cls(f"{scheme}://{parts.netloc}", told, places, key, model)

    @property
    def stream(self) -> str:
        query = {"endpointing_ms": round(1000 * HANG_S)} | ({"model": self.model} if self.model else {})
        return f"{self.base}{STREAM}?{urlencode(query)}"

    @property
    def local(self) -> bool:
        """The server shares this machine's cores."""
        return urlsplit(self.base).hostname in LOOPBACK


async def check_stream(target: Target) -> None:
    """One session, opened and closed. Raises `ServerUnreachable`, `StreamsRefused`."""
    try:
        async with connect(target.stream, additional_headers=authorization(target.key), open_timeout=TIMEOUT_S) as ws:
            async with asyncio.timeout(TIMEOUT_S):
                await ws.recv()
            await ws.send('{"type":"close_stream"}')
    except InvalidStatus as refusal:
        raise _refused(target, refusal) from None
    except (OSError, TimeoutError, WebSocketException) as error:
        raise ServerUnreachable(
            f"{target.base} does not take streams ({error or type(error).__name__}); start it with `voiceforge serve`, give "
            "the right --server, or leave that out to have one started"
        ) from None


def _refused(target: Target, refusal: InvalidStatus) -> StreamsRefused:
    code, message = refused_with(refusal)
    said = f"{target.base} refuses a stream before there is any load: {message}"
    if code == "UNAUTHORIZED":
        return StreamsRefused(code, f"{said}; give one of its keys with --api-key or VOICEFORGE_API_KEY")
    if refusal.response.status_code == FULL:
        wait = refusal.response.headers.get("Retry-After")
        when = f"wait {wait} s" if wait else "wait"
        return StreamsRefused(code, f"{said}; it serves others or drains: {when} and try again, or measure another server")
    return StreamsRefused(code, said)
