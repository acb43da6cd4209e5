"""deepgram-sdk 4, as an application uses it. Prints what happened as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from deepgram import DeepgramClient, DeepgramClientOptions, LiveOptions, LiveTranscriptionEvents, PrerecordedOptions
from deepgram.clients.common.v1.errors import DeepgramApiError

task = json.loads(sys.argv[1])
config = DeepgramClientOptions(api_key=task["key"], url=f"http://{task['host']}", options={"keepalive": "true"})
client = DeepgramClient("", config)
settings = LiveOptions(
    model="nova-2", encoding="linear16", sample_rate=16000, channels=1, interim_results=True, punctuate=True,
    vad_events=True, endpointing=300, utterance_end_ms="1000", keywords=["VoiceForge:2"],
)  # fmt: skip


def live() -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    finalized, closed = threading.Event(), threading.Event()

    def on(_: object, **event: Any) -> None:
        (message,) = event.values()
        messages.append(json.loads(message.to_json()))
        if getattr(message, "from_finalize", False):
            finalized.set()
        if messages[-1]["type"] == "Metadata":
            closed.set()

    connection = client.listen.websocket.v("1")
    for event in LiveTranscriptionEvents:
        if event not in (LiveTranscriptionEvents.Open, LiveTranscriptionEvents.Close):
            connection.on(event, on)
    if not connection.start(settings):
        return {"refused": True}
    with open(task["audio"], "rb") as file:
        while piece := file.read(3200):
            connection.send(piece)
            time.sleep(0.02)
    connection.keep_alive()
    connection.finalize()
    finalized.wait(20)
    connection.send(json.dumps({"type": "CloseStream"}))
    closed.wait(20)
    connection.finish()
    return {"messages": messages}


def wrong_key() -> dict[str, Any]:
    refused: dict[str, Any] = {"live": not client.listen.websocket.v("1").start(settings)}
    try:
        client.listen.rest.v("1").transcribe_file({"buffer": b"x"}, PrerecordedOptions(model="nova-2"))
    except DeepgramApiError as error:
        refused["recorded"] = [int(error.status), json.loads(error.original_error)["err_code"]]
    return refused


def recorded() -> dict[str, Any]:
    wishes = PrerecordedOptions(model="nova-2", punctuate=True, utterances=True, paragraphs=True, diarize=True)
    with open(task["wav"], "rb") as file:
        sent = client.listen.rest.v("1").transcribe_file({"buffer": file.read()}, wishes)
    fetched = client.listen.rest.v("1").transcribe_url({"url": task["url"]}, wishes)
    return {"sent": json.loads(sent.to_json()), "fetched": json.loads(fetched.to_json())}


sys.stdout.write(json.dumps({"live": live, "wrong_key": wrong_key, "recorded": recorded}[task["do"]]()))
