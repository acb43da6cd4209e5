"""Live streams as locust users: `locust -f loadtest/locustfile.py --headless -u 20 -r 2 -t 60s --host ws://127.0.0.1:8080`.

Each user opens a stream and plays wav files (LOADTEST_AUDIO, a folder of mono 16-bit 16 kHz files) in real time, with
1.5 s of silence between them. Reported, in milliseconds: `connect`, `first partial` (from the first chunk of a file),
`final` (from the last chunk that holds sound, the endpointing silence included), and failures. `client lag` says how late
the load generator itself was: a run in which it exceeds 100 ms proves nothing.
"""

from __future__ import annotations

import json
import os
import random
import time
import wave
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import websocket
from locust import User, between, events, task

RATE, CHUNK = 16_000, 1_600
GAP = np.zeros(RATE * 3 // 2, np.int16)


def recordings() -> list[np.ndarray]:
    """The files of LOADTEST_AUDIO; raises when there are none."""
    folder = Path(os.environ.get("LOADTEST_AUDIO", "loadtest/audio"))
    found: list[np.ndarray] = []
    for path in sorted(folder.glob("*.wav")):
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2):
                found.append(np.frombuffer(file.readframes(file.getnframes()), np.int16))
    if not found:
        raise SystemExit(f"no mono 16-bit 16 kHz wav files in {folder}; set LOADTEST_AUDIO")
    return found


RECORDINGS = recordings()


def report(name: str, seconds: float, error: Exception | None = None, size: int = 0) -> None:
    events.request.fire(
        request_type="stream", name=name, response_time=1000 * seconds, response_length=size, exception=error, context={}
    )


class Stream(User):
    """One client that talks, pauses, talks again."""

    wait_time = between(0, 2)

    @task
    def talk(self) -> None:
        began = time.perf_counter()
        try:
            ws = websocket.create_connection(f"{self.host}/ws/v1/transcribe", timeout=30)
            ws.recv()
        except (OSError, websocket.WebSocketException) as error:
            report("connect", time.perf_counter() - began, error)
            return
        report("connect", time.perf_counter() - began)
        state: dict[str, Any] = {"finals": 0}
        reader = gevent.spawn(self._read, ws, state)
        try:
            for audio in random.choices(RECORDINGS, k=4):
                self._play(ws, audio, state)
            ws.send('{"type":"close_stream"}')
            reader.join(timeout=30)
        except (OSError, websocket.WebSocketException) as error:
            report("stream", time.perf_counter() - began, error)
        finally:
            reader.kill()
            ws.close()

    def _play(self, ws: websocket.WebSocket, audio: np.ndarray, state: dict[str, Any]) -> None:
        loud = np.flatnonzero(np.abs(audio) > 500)
        last_sound = int(loud[-1]) if len(loud) else len(audio)
        state.update(first=None, final=None)
        start, whole = time.perf_counter(), np.concatenate([audio, GAP])
        spoken = start
        for i in range(0, len(whole), CHUNK):
            due = start + (i + CHUNK) / RATE
            gevent.sleep(max(0.0, due - time.perf_counter()))
            report("client lag", max(0.0, time.perf_counter() - due))
            ws.send_binary(whole[i : i + CHUNK].tobytes())
            if i <= last_sound < i + CHUNK:
                spoken = time.perf_counter()
        if state["first"]:
            report("first partial", state["first"] - start)
        if state["final"]:
            report("final", state["final"] - spoken, size=len(audio))
        else:
            report("final", 0, RuntimeError("no final before the next file"))

    def _read(self, ws: websocket.WebSocket, state: dict[str, Any]) -> None:
        while True:
            try:
                frame = ws.recv()
            except (OSError, websocket.WebSocketException):
                return
            if not frame:
                return
            message = json.loads(frame)
            if message["type"] == "interim" and not state.get("first"):
                state["first"] = time.perf_counter()
            elif message["type"] == "final":
                state["final"] = time.perf_counter()
            elif message["type"] == "error":
                report("error", 0, RuntimeError(message["error"]["code"]))
