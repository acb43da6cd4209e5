"""deepgram-sdk 7, as an application uses it. Prints what happened as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from websockets.exceptions import InvalidStatus

task = json.loads(sys.argv[1])
host = task["host"]
environment = DeepgramClientEnvironment(
    base=f"http://{host}", production=f"ws://{host}", agent=f"ws://{host}", agent_rest=f"http://{host}"
)
settings = {
    "model": "nova-3", "encoding": "linear16", "sample_rate": 16000, "interim_results": True, "punctuate": True,
    "vad_events": True, "endpointing": 300, "utterance_end_ms": 1000, "keyterm": ["VoiceForge"],
}  # fmt: skip
client = DeepgramClient(api_key=task["key"], environment=environment)


def pieces() -> list[bytes]:
    with open(task["audio"], "rb") as file:
        data = file.read()
    return [data[i : i + 3200] for i in range(0, len(data), 3200)]


def told(message: Any) -> dict[str, Any]:
    return json.loads(message.json())


def live() -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    finalized = threading.Event()

    def on_message(message: Any) -> None:
        messages.append(told(message))
        if getattr(message, "from_finalize", False):
            finalized.set()

    with client.listen.v1.connect(**settings) as connection:
        connection.on(EventType.MESSAGE, on_message)
        listening = threading.Thread(target=connection.start_listening)
        listening.start()
        for piece in pieces():
            connection.send_media(piece)
            time.sleep(0.02)
        connection.send_keep_alive()
        connection.send_finalize()
        finalized.wait(20)
        connection.send_close_stream()
        listening.join(20)
    return {"messages": messages}


async def live_async() -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    finalized = asyncio.Event()

    async def on_message(message: Any) -> None:
        messages.append(told(message))
        if getattr(message, "from_finalize", False):
            finalized.set()

    many = AsyncDeepgramClient(api_key=task["key"], environment=environment)
    async with many.listen.v1.connect(**settings) as connection:
        connection.on(EventType.MESSAGE, on_message)
        listening = asyncio.create_task(connection.start_listening())
        for piece in pieces():
            await connection.send_media(piece)
            await asyncio.sleep(0.02)
        await connection.send_keep_alive()
        await connection.send_finalize()
        await asyncio.wait_for(finalized.wait(), 20)
        await connection.send_close_stream()
        await asyncio.wait_for(listening, 20)
    return {"messages": messages}


def wrong_key() -> dict[str, Any]:
    refused: dict[str, Any] = {}
    try:
        with client.listen.v1.connect(**settings):
            pass
    except InvalidStatus as error:  # with older websockets the client makes it an ApiError
        refused["live"] = error.response.status_code
    except ApiError as error:
        refused["live"] = error.status_code
    try:
        client.listen.v1.media.transcribe_file(request=b"x", model="nova-3")
    except ApiError as error:
        refused["recorded"] = [error.status_code, error.body["err_code"]]
    return refused


def recorded() -> dict[str, Any]:
    with open(task["wav"], "rb") as file:
        data = file.read()
    wishes = {"model": "nova-3", "punctuate": True, "utterances": True, "paragraphs": True, "language": "en-US"}
    sent = client.listen.v1.media.transcribe_file(request=data, **wishes)
    fetched = client.listen.v1.media.transcribe_url(url=task["url"], **wishes)
    return {"sent": told(sent), "fetched": told(fetched)}


todo = {"live": live, "live_async": lambda: asyncio.run(live_async()), "wrong_key": wrong_key, "recorded": recorded}
sys.stdout.write(json.dumps(todo[task["do"]]()))
