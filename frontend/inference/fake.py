"""A scripted engine for tests of everything above it: energy decides speech, the script decides text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from frontend.errors import EngineUnavailable, UnknownModel
from frontend.inference.base import Pcm
from frontend.inference.models import ModelInfo
from frontend.speech.events import Decode, Hypothesis, RunAsr, Word
from frontend.speech.vad_gate import FRAME

TASKS = ("transcribe", "translate")
Script = Callable[[RunAsr, Pcm], str]


def describe(request: RunAsr, audio: Pcm) -> str:
    """The default script: says which window was decoded, so that a test sees lost or doubled audio."""
    return f"[{request.start}-{request.end}]"


class FakeEngine:
    """Knows every language. `delay` seconds a hypothesis, `at_once` of them side by side; while `away` is set every call
    fails as if Triton were down."""

    def __init__(
        self, script: Script = describe, *, delay: float = 0.0, at_once: int = 1_000_000, models: tuple[str, ...] = ("nano",)
    ) -> None:
        self.places = asyncio.Semaphore(at_once)
        self.script, self.delay, self._known = script, delay, {name: ModelInfo(name, True, (), TASKS) for name in models}
        self._models = dict(self._known)
        self.away = False
        self.decoded: list[RunAsr] = []
        self.open_streams = 0

    def vad_stream(self) -> FakeVadStream:
        return FakeVadStream(self)

    def asr_stream(self, model: str, language: str, *, task: str = "transcribe", alternatives: int = 0) -> FakeAsrStream:
        info = self.model(model)
        info.check_task(task)
        info.language(language)
        return FakeAsrStream(self, model)

    def model(self, name: str) -> ModelInfo:
        if name not in self._models:
            raise UnknownModel(f"model {name!r} is not loaded; there is {', '.join(self._models)}")
        return self._models[name]

    async def models(self) -> list[ModelInfo]:
        return list(self._models.values())

    async def repository(self) -> dict[str, bool]:
        return {name: name in self._models for name in self._known}

    async def load(self, model: str, progress: Callable[[str], None] = lambda _: None) -> ModelInfo:
        if model not in self._known:
            raise UnknownModel(f"the repository holds no model {model!r}; it holds {', '.join(self._known)}")
        progress(f"loading {model}")
        self._models[model] = self._known[model]
        return self._models[model]

    async def unload(self, model: str, progress: Callable[[str], None] = lambda _: None) -> None:
        self.model(model)
        progress(f"unloading {model}")
        del self._models[model]

    async def canary(self) -> None:
        if self.away:
            raise EngineUnavailable("the fake engine is away")

    async def close(self) -> None:
        pass


class _Stream:
    """Counts as open from the beginning, and again when it is asked something after a close."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine, self._open = engine, False
        self._asked()

    def _asked(self) -> None:
        self._engine.open_streams += not self._open
        self._open = True

    async def close(self) -> None:
        self._engine.open_streams -= self._open
        self._open = False


class FakeVadStream(_Stream):
    async def probabilities(self, audio: Pcm) -> list[float]:
        self._asked()
        while self._engine.away:  # noqa: ASYNC110 - a plain flag is easier to script
            await asyncio.sleep(0.005)
        frames = audio.reshape(-1, FRAME).astype(np.float32)
        return [1.0 if level > 500 else 0.0 for level in np.abs(frames).mean(axis=1)]


class FakeAsrStream(_Stream):
    def __init__(self, engine: FakeEngine, model: str) -> None:
        super().__init__(engine)
        self.model = model

    async def decode(self, request: RunAsr, audio: Pcm) -> Hypothesis:
        engine = self._engine
        self._asked()
        while engine.away:
            if request.command is not Decode.FINAL:
                raise EngineUnavailable("the fake engine is away")
            await asyncio.sleep(0.005)
        async with engine.places:
            await asyncio.sleep(engine.delay)
        assert len(audio) == request.end - request.start
        engine.decoded.append(request)
        text = engine.script(request, audio)
        step = len(audio) // max(1, len(text.split()))
        words = tuple(Word(f" {w}", i * step, (i + 1) * step, 0.9) for i, w in enumerate(text.split()))
        n = len(words)
        return Hypothesis(text, tokens=tuple(range(n)), logprobs=(-0.1,) * n, words=words, word_tokens=(1,) * n)
