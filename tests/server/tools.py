"""What tests of the server ask of it, its processes and the sessions they had with it."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import time
import urllib.request
from collections.abc import Callable, Sequence

import jiwer
import jsonschema
import numpy as np
import psutil

from tests.conftest import RATE, ROOT, Client, Message, Server, client, silence

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((ROOT / "frontend/protocols/native.schema.json").read_text()), format_checker=jsonschema.FormatChecker()
)


async def hear(server: Server, data: bytes | np.ndarray, chunk: int = 4000, **query: object) -> Client:
    """A whole session: connects, sends the bytes in frames of `chunk`, closes the stream, and checks what came."""
    data = data if isinstance(data, bytes) else data.astype("<i2").tobytes()
    async with client(server.ws, **query) as c:
        for i in range(0, len(data), chunk):
            await c.ws.send(data[i : i + chunk])
        await c.finish()
    check_story(c.messages)
    return c


def check_story(messages: Sequence[Message]) -> None:
    """What holds for every session that ends with `closed`, whatever was said: schema, order, times, totals."""
    for message in messages:
        SCHEMA.validate(message)
    kinds = [m["type"] for m in messages]
    assert (kinds[0], kinds[-1], kinds.count("ready"), kinds.count("closed")) == ("ready", "closed", 1, 1)
    assert [m["timestamp"] for m in messages] == sorted(m["timestamp"] for m in messages)
    settled, told_to = 0, 0.0
    for message in messages:
        if message["type"] == "interim":
            assert message["segment"] > settled, "an interim came after the final of its segment"
        elif message["type"] == "final":
            assert message["segment"] > settled, "finals are numbered in order"
            settled = message["segment"]
            assert message["start"] >= told_to - 0.001, "windows of finals do not overlap"
            told_to = message["start"] + message["duration"]
            _check_words(message, told_to)
    closed = messages[-1]
    assert (closed["finals"], closed["session_id"]) == (kinds.count("final"), messages[0]["session_id"])
    assert closed["interims"] >= kinds.count("interim")  # those that a newer one has overtaken are not sent
    assert told_to <= closed["audio_s"] + 0.001
    assert abs(closed["speech_s"] - sum(m["duration"] for m in messages if m["type"] == "final")) < 0.01


def _check_words(final: Message, end: float) -> None:
    assert " ".join(w["word"] for w in final["words"]) == final["transcript"]
    at = final["start"] - 0.001
    for word in final["words"]:
        assert at <= word["start"] <= word["end"] <= end + 0.001, final
        at = word["start"]


def words_of(text: str) -> str:
    """Lower-case words without punctuation."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def word_error(text: str, reference: str) -> float:
    return float(jiwer.wer(words_of(reference), words_of(text)))


def repeated(speech: np.ndarray, times: int, pause_s: float = 0.8) -> np.ndarray:
    """The same sentence again and again, with pauses that end an utterance."""
    return np.tile(np.concatenate([speech, silence(pause_s)]), times)


def seconds(audio: np.ndarray) -> float:
    return round(len(audio) / RATE, 3)


async def eventually(check: Callable[[], object], timeout_s: float = 60) -> None:
    """Waits until it holds; fails by asserting it a last time."""
    deadline = time.monotonic() + timeout_s
    while not check() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert check()


def held(server: Server) -> dict[str, float]:
    """File descriptors, threads and resident MiB of the front end."""
    process = psutil.Process(server.process.pid)
    return {"fds": process.num_fds(), "threads": process.num_threads(), "rss": process.memory_info().rss / 2**20}


def resident(server: Server) -> int:
    """Bytes of memory that the front end holds."""
    return psutil.Process(server.process.pid).memory_info().rss


def sequences(server: Server) -> dict[str, float]:
    """Streams whose state the engine holds, by its own metrics; its ports are found by its process."""
    found: dict[str, float] = {}
    for connection in psutil.Process(server.triton_pids()[0]).net_connections("inet"):
        if connection.status != psutil.CONN_LISTEN:
            continue
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{connection.laddr.port}/metrics", timeout=5).read().decode()
        except (OSError, ValueError, http.client.HTTPException):  # the ports of gRPC and of the HTTP API
            continue
        for line in text.splitlines():
            if line.startswith(("voiceforge_sequences{", "voiceforge_onnx_sequences{")):
                found[line.split("{")[0]] = float(line.rsplit(" ", 1)[1])
    assert set(found) == {"voiceforge_sequences", "voiceforge_onnx_sequences"}
    return found
