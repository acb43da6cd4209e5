"""The Triton client: the only module that imports `tritonclient`, and where its errors become ours.

One gRPC channel a server and process; unary calls, one in flight a sequence (a multiplexed stream would answer in order
and hold sessions up behind each other). A sequence that breaks, because Triton died, dropped it as idle or was
restarted, is opened again under a new correlation id with the audio that its window needs.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tritonclient.grpc.aio as grpc_client
from tritonclient.utils import InferenceServerException

from frontend.errors import EngineRejected, EngineUnavailable, UnknownModel
from frontend.inference.base import Pcm
from frontend.speech.events import Alternative, Decode, Hypothesis, RunAsr, Timings, Word
from frontend.speech.vad_gate import FRAME

log = logging.getLogger(__name__)
T = TypeVar("T")
Tensors = dict[str, npt.NDArray[Any]]

VAD_MODEL = "silero_vad"
ASR_PREFIX = "whisper_"
_BROKEN_SEQUENCE = ("must specify the START flag", "send START first", "was not found", "is not healthy")
_AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN")


@dataclass(frozen=True)
class Patience:
    """Seconds. `call` bounds one request; `outage` how long finals and the VAD wait for an engine that is away."""

    call: float = 30.0
    outage: float = 60.0
    retry: float = 0.1
    longest_retry: float = 1.0


class TritonEngine:
    """Implements `Engine` over one Triton server."""

    def __init__(self, address: str, patience: Patience = Patience()) -> None:
        self.patience = patience
        self._client = grpc_client.InferenceServerClient(
            address,
            channel_args=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._ids = itertools.count(secrets.randbits(62) | 1)
        self._models: list[str] = []

    def next_id(self) -> int:
        """A correlation id that no other front end is likely to use."""
        return next(self._ids) % (2**63)

    def vad_stream(self) -> TritonVadStream:
        return TritonVadStream(self)

    def asr_stream(self, model: str, language: str, *, task: str = "transcribe", alternatives: int = 0) -> TritonAsrStream:
        if self._models and model not in self._models:
            raise UnknownModel(f"model {model!r} is not loaded; there is {', '.join(self._models)}")
        return TritonAsrStream(self, f"{ASR_PREFIX}{model}", language, task, alternatives)

    async def models(self) -> list[str]:
        try:
            index: Any = await self._client.get_model_repository_index(client_timeout=self.patience.call)
        except InferenceServerException as error:
            raise translate(error) from error
        names = [m.name for m in index.models if m.state == "READY" and m.name.startswith(ASR_PREFIX)]
        self._models = sorted(n.removeprefix(ASR_PREFIX) for n in names if not n.endswith("_encoder"))
        return self._models

    async def canary(self) -> None:
        """One frame of silence through the VAD, 100 ms through every Whisper, encoder and decoder included."""
        for model in self._models or await self.models():
            stream = self.asr_stream(model, "en")
            await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, 1600), np.zeros(1600, np.int16))
            await stream.close()
        vad = self.vad_stream()
        await vad.call(np.zeros(FRAME, np.int16))
        await vad.close()

    async def close(self) -> None:
        await self._client.close()

    async def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        sequence: int,
        *,
        start: bool,
        end: bool = False,
    ) -> Tensors:
        """One request of a sequence. Raises `EngineUnavailable` or `EngineRejected`."""
        tensors: list[Any] = []
        for name, value in inputs.items():
            kind = {"int16": "INT16", "int32": "INT32", "object": "BYTES"}[value.dtype.name]
            tensor = grpc_client.InferInput(name, list(value.shape), kind)
            tensor.set_data_from_numpy(value)
            tensors.append(tensor)
        try:
            result: Any = await self._client.infer(
                model,
                tensors,
                outputs=[grpc_client.InferRequestedOutput(name) for name in outputs],
                sequence_id=sequence,
                sequence_start=start,
                sequence_end=end,
                client_timeout=self.patience.call,
            )
        except InferenceServerException as error:
            raise translate(error) from error
        return {name: result.as_numpy(name) for name in outputs}


def translate(error: InferenceServerException) -> EngineUnavailable | EngineRejected:
    """tritonclient's one exception, by what can be done about it."""
    status, message = str(error.status() or ""), str(error.message())
    if any(word in status for word in _AWAY) or any(text in message for text in _BROKEN_SEQUENCE):
        return EngineUnavailable(f"Triton: {message}")
    return EngineRejected(f"Triton refused the request ({status}): {message}")


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


class _Sequence:
    """A correlation id and whether Triton knows it."""

    def __init__(self, engine: TritonEngine, model: str) -> None:
        self._engine, self._model = engine, model
        self._id = 0
        self.open = False

    async def request(self, inputs: Tensors, outputs: Sequence[str], *, start: bool = False) -> Tensors:
        """Sends one request, with START under a fresh id when asked for or when the sequence is not open."""
        start = start or not self.open
        if not self.open:
            self._id = self._engine.next_id()
        self.open = False  # until it has answered, nobody knows what Triton holds
        result = await self._engine.infer(self._model, inputs, outputs, self._id, start=start)
        self.open = True
        return result

    async def close(self, inputs: Tensors, outputs: Sequence[str]) -> None:
        """Tells Triton that the sequence is over; what goes wrong there is settled by its idle timeout."""
        if not self.open:
            return
        self.open = False
        try:
            await self._engine.infer(self._model, inputs, outputs, self._id, start=False, end=True)
        except (EngineUnavailable, EngineRejected) as error:
            log.debug("closing a sequence of %s: %s", self._model, error)


class TritonVadStream:
    """Implements `VadStream`. After an outage the last second is played again, so the LSTM is warm."""

    WARM_UP = 32 * FRAME

    def __init__(self, engine: TritonEngine) -> None:
        self._engine = engine
        self._sequence = _Sequence(engine, VAD_MODEL)
        self._recent = np.zeros(0, np.int16)

    async def probabilities(self, audio: Pcm) -> list[float]:
        return await _patiently(lambda: self.call(audio), self._engine.patience)

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

    OUTPUTS = (
        "tokens",
        "token_logprobs",
        "text",
        "words",
        "word_tokens",
        "word_times",
        "word_probabilities",
        "word_alternatives",
        "no_speech_probability",
        "language",
        "language_probability",
        "timings_ms",
    )

    def __init__(self, engine: TritonEngine, model: str, language: str, task: str, alternatives: int) -> None:
        self._engine, self._language, self._task, self._alternatives = engine, language, task, alternatives
        self._sequence = _Sequence(engine, model)
        self._held: tuple[int, int, int] | None = None  # segment, start, end

    async def decode(self, request: RunAsr, audio: Pcm) -> Hypothesis:
        if request.command is Decode.FINAL:
            return await _patiently(lambda: self._call(request, audio), self._engine.patience)
        return await self._call(request, audio)

    async def _call(self, request: RunAsr, audio: Pcm) -> Hypothesis:
        held, self._held = self._held if self._sequence.open else None, None
        goes_on = held is not None and held[:2] == (request.segment, request.start) and held[2] <= request.end
        # A window that went beyond this one's end, or another window, begins anew: a START resets the stream.
        anew = held is not None and not goes_on
        fresh = audio[held[2] - request.start :] if held is not None and goes_on else audio
        inputs = self._inputs(fresh, request.command, request.language or self._language)
        for name, tokens in (("prefix", request.prefix), ("context", request.context)):
            if tokens:
                inputs[name] = np.array([tokens], np.int32)
        result = await self._sequence.request(inputs, self.OUTPUTS, start=anew)
        self._held = (request.segment, request.start, request.end)
        return _hypothesis(result)

    def _inputs(self, audio: Pcm, command: Decode, language: str) -> Tensors:
        inputs = {
            "audio": audio[None],
            "command": np.array([[command]], np.int32),
            "language": np.array([[language.encode()]], np.object_),
            "task": np.array([[self._task.encode()]], np.object_),
        }
        if self._alternatives:
            inputs["alternatives"] = np.array([[self._alternatives]], np.int32)
        return inputs

    async def close(self) -> None:
        await self._sequence.close(self._inputs(np.zeros(0, np.int16), Decode.RESET, self._language), self.OUTPUTS)


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
