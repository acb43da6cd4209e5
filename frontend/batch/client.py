"""A client of the native protocol for whole recordings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

Message = dict[str, Any]
CHUNK_S = 0.1


class TranscriptionFailed(Exception):
    """The server refused or ended the stream; the message is the server's."""


def _refusal(error: InvalidStatus) -> str:
    try:
        return json.loads(error.response.body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.response.status_code}"


async def transcribe(
    url: str, audio: npt.NDArray[np.int16], rate: int, *, on_message: Callable[[Message], None], realtime: bool = False,
    api_key: str | None = None, **settings: str | int,
) -> None:  # fmt: skip
    """Streams mono samples to `ws://…/ws/v1/transcribe` and hands every message to `on_message` until `closed`.

    `realtime` paces the audio; otherwise it goes as fast as the server reads. Raises `TranscriptionFailed`, `OSError`.
    """
    query = {"encoding": "linear16", "sample_rate": rate, **settings}
    headers = {"Authorization": f"Token {api_key}"} if api_key else {}
    try:
        async with connect(f"{url}?{urlencode(query)}", additional_headers=headers, compression=None, max_size=None) as ws:
            sender = asyncio.create_task(_send(ws, audio, rate, realtime=realtime))
            try:
                async for frame in ws:
                    message = json.loads(frame)
                    on_message(message)
                    if message["type"] == "error" and message["error"]["fatal"]:
                        raise TranscriptionFailed(message["error"]["message"])
                    if message["type"] == "closed":
                        return
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
    except InvalidStatus as error:
        raise TranscriptionFailed(_refusal(error)) from None
    except ConnectionClosed as error:
        raise TranscriptionFailed(f"the connection was lost: {error}") from None
    raise TranscriptionFailed("the server closed the connection before the transcript was complete")


async def _send(ws: ClientConnection, audio: npt.NDArray[np.int16], rate: int, *, realtime: bool) -> None:
    step = round(rate * CHUNK_S)
    began = asyncio.get_running_loop().time()
    for i in range(0, len(audio), step):
        await ws.send(audio[i : i + step].astype("<i2").tobytes())
        if realtime:
            await asyncio.sleep(max(0.0, began + (i + step) / rate - asyncio.get_running_loop().time()))
    await ws.send('{"type":"close_stream"}')
