"""A live session over an engine that does what it is told, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from frontend.control.load import EngineLoad
from frontend.inference.base import Pcm
from frontend.inference.fake import FakeEngine
from frontend.observability.metrics import Metrics
from frontend.server.live import LiveSession
from frontend.speech.events import Decode, Event, Final, RunAsr
from frontend.speech.settings import RATE, SessionSettings

PATIENCE_S = 5.0
"""Nothing here takes as long; a session that hangs fails instead of holding up the suite."""


def quiet(seconds: float) -> Pcm:
    return np.zeros(round(seconds * RATE), np.int16)


def loud(seconds: float, seed: int = 0) -> Pcm:
    """What the fake engine takes for speech; every sample differs from its neighbours, so that lost audio shows."""
    return np.random.default_rng(seed).integers(1_000, 8_000, round(seconds * RATE)).astype(np.int16)


def utterances(n: int = 2) -> Pcm:
    return np.concatenate([part for i in range(n) for part in (quiet(0.7), loud(1.0, i), quiet(0.8))])


class Heard:
    """A session, what it told, and the audio of each final decode."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.metrics = engine, Metrics()
        self.events: list[Event] = []
        self._audio: dict[int, Pcm] = {}
        self._script, engine.script = engine.script, self._decode
        self.session: LiveSession

    def _decode(self, request: RunAsr, audio: Pcm) -> str:
        if request.command is Decode.FINAL:
            self._audio[request.start] = audio.copy()
        return self._script(request, audio)

    def audio(self, window: tuple[int, int]) -> Pcm:
        """What was decoded for a final; a cut's window went beyond it."""
        return self._audio[window[0]][: window[1] - window[0]]

    @property
    def finals(self) -> list[Final]:
        return [e for e in self.events if isinstance(e, Final)]

    @property
    def windows(self) -> list[tuple[int, int]]:
        return [(f.start, f.end) for f in self.finals]

    async def feed(self, audio: Pcm, chunk: int = 1_600) -> None:
        for i in range(0, len(audio), chunk):
            await self.session.feed(audio[i : i + chunk])
            await asyncio.sleep(0)  # as a socket would

    async def close(self) -> None:
        self.session.close()
        async with asyncio.timeout(PATIENCE_S):
            await self.session.finished.wait()

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"voiceforge_{name}")


@asynccontextmanager
async def live(
    engine: FakeEngine | None = None, *, max_backlog_s: float = 1_000.0, load: EngineLoad | None = None, **settings: Any
):
    heard = Heard(engine or FakeEngine())
    heard.session = LiveSession(
        SessionSettings(**settings), heard.engine.vad_stream(),
        heard.engine.asr_stream("nano", "en"), heard.metrics, load or EngineLoad(time.monotonic, 1.0),
        heard.events.append, max_backlog_s=max_backlog_s,
    )  # fmt: skip
    async with heard.session:
        yield heard


async def is_stuck(waiting: asyncio.Task[None]) -> bool:
    """Whether a task is still waiting after everything that could run has run."""
    await asyncio.wait({waiting}, timeout=0.05)
    return not waiting.done()


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.002)
