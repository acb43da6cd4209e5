"""openai's Realtime transcription in Python, as an application uses it. Prints what happened as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import InvalidStatus

task = json.loads(sys.argv[1])
COMPLETED = "conversation.item.input_audio_transcription.completed"
PIECE = 4_800
"""Bytes of 100 ms at 24 kHz."""

where = {"api_key": task["key"], "base_url": f"http://{task['host']}/v1"}
client = OpenAI(**where)
vad: dict[str, Any] = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
transcription: dict[str, Any] = {"model": "gpt-4o-transcribe", "language": "en"}


def session(turns: dict[str, Any] | None) -> dict[str, Any]:
    audio = {"format": {"type": "audio/pcm", "rate": 24000}, "transcription": transcription, "turn_detection": turns}
    return {"type": "transcription", "audio": {"input": audio}, "include": ["item.input_audio_transcription.logprobs"]}


def flat_session(turns: dict[str, Any] | None) -> dict[str, Any]:
    return {"input_audio_format": "pcm16", "input_audio_transcription": transcription, "turn_detection": turns}


def pieces() -> list[str]:
    with open(task["audio"], "rb") as file:
        data = file.read()
    return [base64.b64encode(data[i : i + PIECE]).decode() for i in range(0, len(data), PIECE)]


def heard(connection: Any, n_items: int) -> list[dict[str, Any]]:
    """What the client parsed, until so many items are completed."""
    events: list[dict[str, Any]] = []
    for event in connection:
        events.append(event.to_dict())
        if sum(e["type"] == COMPLETED for e in events) == n_items:
            return events
    return events


def streamed(connection: Any, n_items: int) -> list[dict[str, Any]]:
    def send() -> None:
        for piece in pieces():
            connection.input_audio_buffer.append(audio=piece)
            time.sleep(0.02)

    sending = threading.Thread(target=send)
    sending.start()
    events = heard(connection, n_items)
    sending.join()
    return events


def live() -> dict[str, Any]:
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        connection.session.update(session=session(vad))
        events = streamed(connection, 2)
    checked = TypeAdapter(RealtimeServerEvent)
    for event in events:
        checked.validate_python(event)
    return {"events": events}


async def live_async() -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    async with AsyncOpenAI(**where).realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=session(vad))

        async def send() -> None:
            for piece in pieces():
                await connection.input_audio_buffer.append(audio=piece)
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        async for event in connection:
            events.append(event.to_dict())
            if sum(e["type"] == COMPLETED for e in events) == 2:
                break
        await sending
    return {"events": events}


def manual() -> dict[str, Any]:
    with client.realtime.connect(model="whisper-1") as connection:
        connection.session.update(session=session(None))
        for piece in pieces():
            connection.input_audio_buffer.append(audio=piece)
        connection.input_audio_buffer.clear()
        for piece in pieces():
            connection.input_audio_buffer.append(audio=piece)
        connection.input_audio_buffer.commit()
        events = heard(connection, 1)
        connection.input_audio_buffer.commit(event_id="empty")
        connection.response.create(event_id="answer")
        errors = [connection.recv().to_dict()["error"] for _ in range(2)]
    return {"events": events, "errors": errors}


def beta() -> dict[str, Any]:
    without_tls = OpenAI(**where, websocket_base_url=f"ws://{task['host']}/v1")
    with without_tls.beta.realtime.connect(
        model="gpt-4o-realtime-preview", extra_query={"intent": "transcription"}
    ) as connection:
        connection.transcription_session.update(session=flat_session(vad))
        return {"events": streamed(connection, 2)}


def wrong_key() -> dict[str, Any]:
    try:
        with client.realtime.connect(extra_query={"intent": "transcription"}):
            return {}
    except InvalidStatus as error:
        return {"status": error.response.status_code, "error": json.loads(error.response.body)["error"]}


def reconnect() -> dict[str, Any]:
    """The server ends the session after its time; the client connects again by itself."""
    codes: list[int] = []
    with client.realtime.connect(
        model="gpt-4o-transcribe", on_reconnecting=lambda event: codes.append(event.close_code)
    ) as connection:
        for event in connection:
            if event.type == "session.created" and codes:
                break
        connection.session.update(session=session(vad))
        return {"codes": codes, "events": streamed(connection, 2)}


todo = {
    "live": live, "live_async": lambda: asyncio.run(live_async()), "manual": manual, "beta": beta, "wrong_key": wrong_key,
    "reconnect": reconnect,
}  # fmt: skip
sys.stdout.write(json.dumps(todo[task["do"]]()))
