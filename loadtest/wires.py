"""What a load test reads and writes on each wire. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

RATE = 16_000


@dataclass(frozen=True)
class Heard:
    """A message that matters to a load test. `start`, `end`: what the result is about, seconds of the stream."""

    kind: Literal["partial", "final", "error"]
    text: str = ""
    start: float = 0.0
    end: float = 0.0


class Wire(Protocol):
    close_message: str

    def url(self, host: str, endpointing_ms: int) -> str:
        """`host` is ws://HOST:PORT."""
        ...

    def headers(self, api_key: str | None) -> dict[str, str]: ...

    def parse(self, frame: str) -> Heard | None:
        """None for what is not about results."""
        ...


class Native:
    close_message = '{"type":"close_stream"}'

    def url(self, host: str, endpointing_ms: int) -> str:
        return f"{host}/ws/v1/transcribe?{urlencode({'endpointing_ms': endpointing_ms})}"

    def headers(self, api_key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def parse(self, frame: str) -> Heard | None:
        message: dict[str, Any] = json.loads(frame)
        match message["type"]:
            case "interim" | "final" as kind:
                start = float(message["start"])
                found = "final" if kind == "final" else "partial"
                return Heard(found, message["transcript"], start, start + float(message["duration"]))
            case "error":
                return Heard("error", message["error"]["code"])
            case _:
                return None


class Deepgram:
    close_message = '{"type":"CloseStream"}'

    def url(self, host: str, endpointing_ms: int) -> str:
        query = {"encoding": "linear16", "sample_rate": RATE, "interim_results": "true", "endpointing": endpointing_ms}
        return f"{host}/v1/listen?{urlencode(query)}"

    def headers(self, api_key: str | None) -> dict[str, str]:
        return {"Authorization": f"Token {api_key}"} if api_key else {}

    def parse(self, frame: str) -> Heard | None:
        message: dict[str, Any] = json.loads(frame)
        match message.get("type"):
            case "Results":
                start = float(message["start"])
                text = message["channel"]["alternatives"][0]["transcript"]
                kind = "final" if message["is_final"] else "partial"
                return Heard(kind, text, start, start + float(message["duration"])) if text else None
            case "Error":
                return Heard("error", str(message.get("err_code") or message.get("description")))
            case _:
                return None
