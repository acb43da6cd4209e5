"""Streams of a session at a Triton server: sequences that are opened again when they break, with the audio that they need.

A sequence that breaks, because Triton died, dropped it as idle or was restarted, is opened again under a new correlation id;
where there are several servers, perhaps at another one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from frontend.errors import EngineRejected, EngineUnavailable, UnknownModel
from frontend.inference.base import Pcm
from frontend.inference.triton import OUTPUTS, VAD_MODEL, Patience, Tensors, TritonServer
from frontend.speech.events import Alternative, Decode, Hypothesis, RunAsr, Timings, Word
from frontend.speech.vad_gate import FRAME

log = logging.getLogger(__name__)
T = TypeVar("T")


async def _patiently(attempt: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Repeats an attempt while the engine is away. Each attempt must be safe to repeat."""
    deadline, pause = time.monotonic() + patience.outage, patience.retry
    while True:
        try:
            return await attempt()
        except EngineUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.info("engine away, trying again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, patience.longest_retry)


class Servers(Protocol):
    """Where sequences may be."""

    patience: Patience

    def pick(self, model: str) -> TritonServer:
        """The one to open a sequence of this model at, by Triton's name."""
        ...


class _Sequence:
    """A correlation id at a server, and whether that knows it."""

    def __init__(self, servers: Servers, model: str) -> None:
        self._servers, self._model = servers, model
        self._server: TritonServer | None = None
        self._id = 0
        self._sent = False
        """Triton may know it, also when nobody waited for the answer."""
        self.open = False

    async def request(self, inputs: Tensors, outputs: Sequence[str], *, start: bool = False) -> Tensors:
        """Sends one request, with START under a fresh id when asked for or when the sequence is not open."""
        start = start or not self.open
        if not self.open or self._server is None:
            self._leave()
            self._server = self._servers.pick(self._model)
            self._server.held += 1
            self._id = self._server.next_id()
        self.open, self._sent = False, True  # until it has answered, nobody knows what Triton holds
        try:
            result = await self._server.infer(self._model, inputs, outputs, self._id, start=start)
        except EngineUnavailable:
            self._sent = False
            self._server.suspect()
            raise
        self.open = True
        return result

    async def close(self, inputs: Tensors, outputs: Sequence[str]) -> None:
        """Tells Triton that the sequence is over; what goes wrong there is settled by its idle timeout."""
        server, sent, self.open, self._sent = self._server, self._sent, False, False
        self._leave()
        if server is None or not sent:
            return
        try:
            await server.infer(self._model, inputs, outputs, self._id, start=False, end=True)
        except (EngineUnavailable, EngineRejected, UnknownModel) as error:
            log.debug("closing a sequence of %s: %s", self._model, error)

    def _leave(self) -> None:
        if self._server:
            self._server.held -= 1
        self._server = None


class TritonVadStream:
    """Implements `VadStream`. After an outage the last second is played again, so the LSTM is warm."""

    WARM_UP = 32 * FRAME

    def __init__(self, servers: Servers) -> None:
        self._patience = servers.patience
        self._sequence = _Sequence(servers, VAD_MODEL)
        self._recent = np.zeros(0, np.int16)

    async def probabilities(self, audio: Pcm) -> list[float]:
        return await _patiently(lambda: self.call(audio), self._patience)

    async def call(self, audio: Pcm) -> list[float]:
        """One attempt."""
        replay = self._recent if not self._sequence.open else np.zeros(0, np.int16)
        whole = np.concatenate([replay, audio])
        result = await self._sequence.request({"audio": whole[None]}, ["probabilities"])
        self._recent = np.concatenate([self._recent, audio])[-self.WARM_UP :]
        return [float(p) for p in result["probabilities"].reshape(-1)[len(replay) // FRAME :]]

    async def close(self) -> None:
        await self._sequence.close({"audio": np.zeros((1, FRAME), np.int16)}, ["probabilities"])


class TritonAsrStream:
    """Implements `AsrStream`: remembers which window Triton holds and how far, and sends what is missing."""

    def __init__(self, servers: Servers, model: str, language: str, task: str, alternatives: int) -> None:
        self._patience, self._language, self._task, self._alternatives = servers.patience, language, task, alternatives
        self.model = model
        self._sequence = _Sequence(servers, model)
        self._held: tuple[int, int, int] | None = None  # segment, start, end

    async def decode(self, request: RunAsr, audio: Pcm) -> Hypothesis:
        if request.command is Decode.FINAL:
            return await _patiently(lambda: self._call(request, audio), self._patience)
        return await self._call(request, audio)

    async def _call(self, request: RunAsr, audio: Pcm) -> Hypothesis:
        held, self._held = self._held if self._sequence.open else None, None
        goes_on = held is not None and held[:2] == (request.segment, request.start) and held[2] <= request.end
        # A window that went beyond this one's end, or another window, begins anew: a START resets the stream.
        anew = held is not None and not goes_on
        fresh = audio[held[2] - request.start :] if held is not None and goes_on else audio
        language = request.language or self._language
        inputs = self._inputs(fresh, request.command, language, request.prefix, request.context)
        result = await self._sequence.request(inputs, OUTPUTS, start=anew)
        self._held = (request.segment, request.start, request.end)
        return _hypothesis(result)

    def _inputs(
        self, audio: Pcm, command: Decode, language: str, prefix: Sequence[int] = (), context: Sequence[int] = ()
    ) -> Tensors:
        """All of the model's inputs, always: requests that differ in them are not batched, and Triton's batcher (24.10)
        spins on the next one for as long as the model is busy with those before."""
        return {
            "audio": audio[None],
            "command": np.array([[command]], np.int32),
            "prefix": np.array([prefix], np.int32).reshape(1, -1),
            "context": np.array([context], np.int32).reshape(1, -1),
            "language": np.array([[language.encode()]], np.object_),
            "task": np.array([[self._task.encode()]], np.object_),
            "alternatives": np.array([[self._alternatives]], np.int32),
        }

    async def close(self) -> None:
        await self._sequence.close(self._inputs(np.zeros(0, np.int16), Decode.RESET, self._language), OUTPUTS)


def _hypothesis(result: Tensors) -> Hypothesis:
    flat = {name: value.reshape(-1) for name, value in result.items()}
    times = result["word_times"].reshape(-1, 2)
    words = tuple(
        Word(text.decode("utf-8"), int(start), int(end), float(p), _alternatives(other))
        for text, (start, end), p, other in zip(
            flat["words"], times, flat["word_probabilities"], flat["word_alternatives"], strict=True
        )
    )
    return Hypothesis(
        text=flat["text"][0].decode("utf-8"),
        tokens=tuple(int(t) for t in flat["tokens"]),
        logprobs=tuple(float(p) for p in flat["token_logprobs"]),
        words=words,
        word_tokens=tuple(int(n) for n in flat["word_tokens"]),
        no_speech_probability=float(flat["no_speech_probability"][0]),
        language=flat["language"][0].decode("utf-8"),
        language_probability=float(flat["language_probability"][0]),
        timings=Timings(*(float(t) for t in flat["timings_ms"])),
    )


def _alternatives(found: bytes) -> tuple[Alternative, ...]:
    return tuple(Alternative(text, p) for text, p in json.loads(found)) if found else ()
