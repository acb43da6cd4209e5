"""A client of Deepgram's wire, for tests: every message is validated."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import RATE, Server
from tests.unit.deepgram_schema import validate

KEY = {"Authorization": "Token secret"}
RAW = {"encoding": "linear16", "sample_rate": "16000"}
TRAIN, WINDOW = "The train to London leaves at half past three.", "Please open the window in the kitchen."


class Client:
    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.messages: list[dict[str, Any]] = []

    async def audio(self, samples: np.ndarray, pause_s: float = 0.0) -> None:
        """In pieces of 200 ms."""
        data = samples.astype("<i2").tobytes()
        for i in range(0, len(data), 6400):
            await self.ws.send(data[i : i + 6400])
            await asyncio.sleep(pause_s)

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message with these fields."""
        async with asyncio.timeout(40):
            while True:
                message = json.loads(await self.ws.recv())
                validate(message)
                self.messages.append(message)
                if message["type"] == kind and all(message[k] == v for k, v in fields.items()):
                    return message

    async def rest(self) -> tuple[int, str]:
        """Reads to the end; code and reason of the close frame."""
        with contextlib.suppress(ConnectionClosed):
            await self.until("nothing has this type")
        return self.ws.close_code or 0, self.ws.close_reason or ""

    def finals(self, channel: int = 0) -> list[str]:
        return [
            m["channel"]["alternatives"][0]["transcript"]
            for m in self.messages
            if m["type"] == "Results" and m["is_final"] and m["channel_index"][0] == channel
        ]


def address(server: Server, query: dict[str, Any]) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/listen?{httpx.QueryParams(query)}"


@contextlib.asynccontextmanager
async def client(server: Server, **query: Any) -> AsyncIterator[Client]:
    async with connect(address(server, RAW | query), additional_headers=KEY, compression=None) as ws:
        yield Client(ws)


def wav(*channels: np.ndarray) -> bytes:
    length = max(map(len, channels))
    file = io.BytesIO()
    soundfile.write(file, np.stack([np.pad(c, (0, length - len(c))) for c in channels], 1), RATE, format="WAV")
    return file.getvalue()


def post(server: Server, *, query: dict[str, Any] | None = None, key: dict[str, str] = KEY, **body: Any) -> httpx.Response:
    answer = httpx.post(f"{server.http}/v1/listen", params=query, headers=key, timeout=90, **body)
    validate(answer.json())
    return answer
