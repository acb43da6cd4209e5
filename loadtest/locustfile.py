"""Live streams as locust users, on the native wire and on Deepgram's; see README.md beside this file.

Each user opens a stream and speaks sentences in real time with pauses between them. Reported in milliseconds: `connect`,
`first partial` (from the chunk in which speech begins), `final lag` (from the chunk in which it ends, the endpointing
silence taken off), and `client lag`: how late the load generator itself was, which voids a run above 100 ms at p95.
Failures are connections refused or lost, errors told, and sentences without a final. At the end: the word error rate.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import websocket
from locust import User, constant, events, task
from locust.runners import WorkerRunner

sys.path.insert(0, str(Path(__file__).parent.parent))  # `locust -f` knows only this folder

from frontend.capacity.errors import NoSpeech
from frontend.capacity.speech import Clip, recorded
from frontend.capacity.wer import count
from loadtest.wires import RATE, Deepgram, Heard, Native, Wire

log = logging.getLogger(__name__)

CHUNK = RATE // 10
GAP_S = 1.5
PATIENCE_S = 30
MOST_CLIENT_LAG_MS = 100
VOID, TOO_SLOW = 2, 3
"""Exit codes."""


class Words:
    """Errors and words of the sentences whose text is known; workers send theirs to the master."""

    def __init__(self) -> None:
        self.errors = self.total = 0

    def add(self, said: str, heard: str) -> None:
        errors, total = count([said], [heard])
        self.errors += errors
        self.total += total


words = Words()
clips: Sequence[Clip] = ()


@events.init_command_line_parser.add_listener
def options(parser: Any) -> None:
    group = parser.add_argument_group("VoiceForge")
    group.add_argument("--audio", default="loadtest/audio", help="folder of wav or flac files")
    group.add_argument("--api-key", default="", help="of the server")
    group.add_argument("--endpointing-ms", type=int, default=500, help="silence that ends an utterance")
    group.add_argument("--sentences", type=int, default=4, help="of one stream, before it closes and another one opens")
    group.add_argument("--slo-ms", type=float, default=500, help="final lag at p95 above which the exit code is 3")


@events.test_start.add_listener
def load(environment: Any, **_: Any) -> None:
    global clips
    words.errors = words.total = 0
    if not clips:
        folder = environment.parsed_options.audio
        try:
            clips = recorded(Path(folder))
        except NoSpeech as error:
            raise NoSpeech(f"{error}; make some: python -m loadtest.speech {folder}") from None


def report(wire: str, name: str, seconds: float, error: Exception | None = None) -> None:
    events.request.fire(
        request_type=wire, name=name, response_time=1000 * seconds, response_length=0, exception=error, context={}
    )


class StreamUser(User):
    """One client that talks, pauses, talks again."""

    abstract = True
    wait_time = constant(0)
    wire: Wire
    name: str

    def on_start(self) -> None:
        gevent.sleep(random.uniform(0, 3))  # nobody speaks in step with another

    @task
    def talk(self) -> None:
        given, began = self.environment.parsed_options, time.perf_counter()
        url = self.wire.url(self.host.replace("http", "ws", 1), given.endpointing_ms)
        try:
            ws = websocket.create_connection(url, timeout=PATIENCE_S, header=self.wire.headers(given.api_key or None))
        except (OSError, websocket.WebSocketException) as error:
            report(self.name, "connect", time.perf_counter() - began, error)
            gevent.sleep(1)
            return
        report(self.name, "connect", time.perf_counter() - began)
        heard: list[tuple[float, Heard]] = []
        reader = gevent.spawn(self._read, ws, heard)
        try:
            self._converse(ws, heard, random.sample(clips, min(given.sentences, len(clips))), given.endpointing_ms / 1000)
            ws.send(self.wire.close_message)
            reader.join(timeout=PATIENCE_S)
        except (OSError, websocket.WebSocketException) as error:
            report(self.name, "stream", time.perf_counter() - began, error)
        finally:
            reader.kill()
            ws.close()

    def _converse(
        self, ws: websocket.WebSocket, heard: list[tuple[float, Heard]], said: Sequence[Clip], hang_s: float
    ) -> None:
        position, start = 0, time.perf_counter()
        for clip in said:
            whole = np.concatenate([clip.audio, np.zeros(round(GAP_S * RATE), np.int16)])
            for i in range(0, len(whole), CHUNK):
                due = start + (position + i + CHUNK) / RATE
                gevent.sleep(max(0.0, due - time.perf_counter()))
                report(self.name, "client lag", max(0.0, time.perf_counter() - due))
                ws.send_binary(whole[i : i + CHUNK].tobytes())
            self._score(clip, position, start, [(t, h) for t, h in heard if h.end * RATE > position], hang_s)
            position += len(whole)

    def _score(self, clip: Clip, position: int, start: float, heard: list[tuple[float, Heard]], hang_s: float) -> None:
        """What came of one sentence. A sample counts as sent when its chunk was due."""

        def sent(sample: int) -> float:
            return start + ((position + sample) // CHUNK + 1) * CHUNK / RATE

        partials = [t for t, h in heard if h.kind == "partial"]
        finals = [(t, h) for t, h in heard if h.kind == "final" and h.text]
        for _, h in heard:
            if h.kind == "error":
                report(self.name, "error", 0, RuntimeError(h.text))
        if partials:
            report(self.name, "first partial", max(0.0, partials[0] - sent(clip.speech_start)))
        if finals:
            report(self.name, "final lag", max(0.0, finals[-1][0] - sent(clip.speech_end) - hang_s))
        else:
            report(self.name, "final lag", 0, RuntimeError("no final before the next sentence"))
        words.add(clip.text, " ".join(h.text for _, h in finals))

    def _read(self, ws: websocket.WebSocket, heard: list[tuple[float, Heard]]) -> None:
        while True:
            try:
                frame = ws.recv()
            except (OSError, websocket.WebSocketException):
                return
            if not frame:
                return
            if found := self.wire.parse(frame):
                heard.append((time.perf_counter(), found))


class NativeUser(StreamUser):
    wire, name = Native(), "native"


class DeepgramUser(StreamUser):
    wire, name = Deepgram(), "deepgram"


# --- sums over users, and over machines -------------------------------------------------------------------------------


@events.report_to_master.add_listener
def tell(data: dict[str, Any], **_: Any) -> None:
    data["words"] = words.errors, words.total
    words.errors = words.total = 0


@events.worker_report.add_listener
def told(data: dict[str, Any], **_: Any) -> None:
    errors, total = data.get("words", (0, 0))
    words.errors += errors
    words.total += total


@events.quitting.add_listener
def conclude(environment: Any, **_: Any) -> None:
    """The verdict, and the exit code that says it to a script."""
    if isinstance(environment.runner, WorkerRunner):
        return
    stats = environment.stats

    def p95(name: str) -> float:
        return max(
            (s.get_response_time_percentile(0.95) or 0.0 for (n, _), s in stats.entries.items() if n == name), default=0
        )

    if words.total:
        print(f"word error rate {100 * words.errors / words.total:.1f} % of {words.total} words")
    if (late := p95("client lag")) > MOST_CLIENT_LAG_MS:
        print(f"void: the load generator itself was {late:.0f} ms late at p95; give it more cores or machines")
        environment.process_exit_code = VOID
    elif (lag := p95("final lag")) > environment.parsed_options.slo_ms:
        print(f"too slow: final lag {lag:.0f} ms at p95, the goal is {environment.parsed_options.slo_ms:.0f}")
        environment.process_exit_code = TOO_SLOW
