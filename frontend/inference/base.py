"""What the front end needs of an engine. `triton.py` is the real one, `fake.py` a scripted one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from frontend.inference.models import ModelInfo
from frontend.speech.events import Hypothesis, RunAsr

Pcm = npt.NDArray[np.int16]


class VadStream(Protocol):
    async def probabilities(self, audio: Pcm) -> list[float]:
        """Speech probability of each 512-sample frame; `audio` int16 (512 k,), frames in order without gaps.

        Waits and tries again while the engine is away. Raises `EngineUnavailable` when it stays away too long.
        """
        ...

    async def close(self) -> None:
        """Lets go of what the engine holds; another request opens it again."""
        ...


class AsrStream(Protocol):
    model: str
    """Who answers."""

    async def decode(self, request: RunAsr, audio: Pcm) -> Hypothesis:
        """Decodes the window [request.start, request.end); `audio` int16 is that window, whole, each time.

        What the engine already holds of it is not sent again. A final waits and tries again while the engine is away;
        a partial raises `EngineUnavailable` at once.
        """
        ...

    async def close(self) -> None:
        """As for `VadStream`."""
        ...


class Engine(Protocol):
    """Making a stream holds nothing on the engine's side; its first request does."""

    def vad_stream(self) -> VadStream: ...

    def asr_stream(self, model: str, language: str, *, task: str = "transcribe", alternatives: int = 0) -> AsrStream:
        """`language`: a code, or `auto`; `task`: transcribe or translate; `alternatives` for each word of low confidence.

        Raises `UnknownModel`, `UnknownLanguage` or `UnsupportedTask` for what the engine or the model does not have.
        """
        ...

    def model(self, name: str) -> ModelInfo:
        """What is known of a model; raises `UnknownModel` when it is not loaded."""
        ...

    async def models(self) -> list[ModelInfo]:
        """The models that are loaded, those that `model=` takes."""
        ...

    async def repository(self) -> dict[str, bool]:
        """The models that could be loaded, by name, and whether each is."""
        ...

    async def load(self, model: str, progress: Callable[[str], None] = ...) -> ModelInfo:
        """Loads a model of the repository, anew when it is loaded already; `progress` is told each step.

        Raises `UnknownModel` when the repository holds none of that name, `EngineRejected` when it cannot be loaded.
        """
        ...

    async def unload(self, model: str, progress: Callable[[str], None] = ...) -> None:
        """New sessions are refused at once; what was asked of the model is answered first. Raises `UnknownModel`."""
        ...

    async def canary(self) -> None:
        """Asks every model something cheap; raises when one does not answer."""
        ...

    async def close(self) -> None: ...
