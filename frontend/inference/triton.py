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

from frontend.errors import EngineRejected, EngineUnavailable, ModelGone, UnknownModel, VoiceForgeError
from frontend.inference.base import Pcm
from frontend.inference.models import ModelInfo
from frontend.speech.events import Alternative, Decode, Hypothesis, RunAsr, Timings, Word
from frontend.speech.vad_gate import FRAME

log = logging.getLogger(__name__)
T = TypeVar("T")
Tensors = dict[str, npt.NDArray[Any]]

VAD_MODEL = "silero_vad"
ASR_PREFIX, ENCODER_SUFFIX = "whisper_", "_encoder"
READY = "READY"
ENCODER_FRAME = 320  # samples
TASKS = ("transcribe", "translate")
_BROKEN_SEQUENCE = ("must specify the START flag", "send START first", "was not found", "is not healthy")
_AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN")


def triton_names(models: Sequence[str]) -> list[str]:
    """What Triton has to load for these models to be served."""
    return [VAD_MODEL, *(f"{ASR_PREFIX}{m}{suffix}" for m in models for suffix in (ENCODER_SUFFIX, ""))]


@dataclass(frozen=True)
class Patience:
    """Seconds. `call` bounds one request, `load` that of loading a model; `outage` how long finals and the VAD wait for an
    engine that is away."""

    call: float = 30.0
    load: float = 600.0
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
        self._infos: dict[str, ModelInfo] | None = None
        self._unloaded: list[str] = []
        self._control = asyncio.Lock()

    def next_id(self) -> int:
        """A correlation id that no other front end is likely to use."""
        return next(self._ids) % (2**63)

    def vad_stream(self) -> TritonVadStream:
        return TritonVadStream(self)

    def asr_stream(self, model: str, language: str, *, task: str = "transcribe", alternatives: int = 0) -> TritonAsrStream:
        info = self.model(model)
        info.check_task(task)
        return TritonAsrStream(self, f"{ASR_PREFIX}{model}", info.language(language), task, alternatives)

    # --- models ---------------------------------------------------------------------------------------------------

    def model(self, name: str) -> ModelInfo:
        """What the last look at Triton said of a model; raises `UnknownModel` when it was not loaded."""
        if self._infos is None:  # nobody has looked yet: let Triton decide
            return ModelInfo(name, True, (), TASKS)
        if name not in self._infos:
            raise UnknownModel(self._not_loaded(name))
        return self._infos[name]

    def _not_loaded(self, name: str) -> str:
        there = f"there is {', '.join(self._infos or ()) or 'none'}"
        if name in self._unloaded:
            return f"model {name!r} is in the repository but not loaded (voiceforge models load {name}); {there}"
        return f"model {name!r} is not loaded; {there}"

    async def models(self) -> list[ModelInfo]:
        """The models that are loaded, by name. Raises `EngineUnavailable`."""
        states = await self._states()
        loaded = [n for n, state in states.items() if state == READY and states.get(f"{n}{ENCODER_SUFFIX}") == READY]
        infos = [await self._describe(name) for name in loaded]
        self._infos = {info.name: info for info in infos if info is not None}
        return list(self._infos.values())

    async def repository(self) -> dict[str, bool]:
        """The models of Triton's repository by name, and whether each is loaded."""
        await self.models()
        return dict(sorted({**dict.fromkeys(self._unloaded, False), **dict.fromkeys(self._infos or (), True)}.items()))

    async def loaded(self) -> list[str]:
        """Everything that Triton has loaded, by its own names."""
        return [name for name, state in (await self._states(prefix="")).items() if state == READY]

    async def _states(self, prefix: str = ASR_PREFIX) -> dict[str, str]:
        """Triton's state of each of its models whose name begins with `prefix`; empty for one never loaded."""
        try:
            index: Any = await self._client.get_model_repository_index(client_timeout=self.patience.call)
        except InferenceServerException as error:
            raise translate(error) from error
        states: dict[str, str] = {m.name: m.state for m in sorted(index.models, key=lambda m: m.name)}
        names = {n.removeprefix(ASR_PREFIX) for n in states if n.startswith(ASR_PREFIX) and not n.endswith(ENCODER_SUFFIX)}
        self._unloaded = sorted(n for n in names if states[f"{ASR_PREFIX}{n}"] != READY)
        return {n: state for n, state in states.items() if n.startswith(prefix)}

    async def _describe(self, triton_name: str) -> ModelInfo | None:
        """None when it was unloaded just now."""
        try:
            answer: Any = await self._client.get_model_config(triton_name, as_json=True, client_timeout=self.patience.call)
        except InferenceServerException as error:
            if isinstance(translate(error), ModelGone):
                return None
            raise translate(error) from error
        parameters = {k: v.get("string_value", "") for k, v in answer["config"].get("parameters", {}).items()}
        return ModelInfo.from_parameters(triton_name.removeprefix(ASR_PREFIX), parameters)

    async def watch(self, every_s: float = 5.0) -> None:
        """Keeps what is known of the models fresh: another process may load and unload them."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.models()
            except (EngineUnavailable, EngineRejected) as error:
                log.debug("looking for models: %s", error)

    async def load(self, model: str, progress: Callable[[str], None] = lambda _: None) -> ModelInfo:
        """Has Triton load a model of its repository, anew when it is loaded already.

        Raises `UnknownModel` when the repository holds none of that name, `EngineRejected` when Triton cannot load it.
        """
        name = f"{ASR_PREFIX}{model}"
        async with self._control:
            states = await self._states()
            if name not in states:
                there = ", ".join(n.removeprefix(ASR_PREFIX) for n in states if not n.endswith(ENCODER_SUFFIX))
                raise UnknownModel(f"the repository holds no model {model!r}; it holds {there or 'none'}")
            parts = (f"{name}{ENCODER_SUFFIX}", name)
            for part in parts:
                progress(f"loading {part}")
                try:
                    await self._client.load_model(part, client_timeout=self.patience.load)
                except InferenceServerException as error:
                    if states[name] != READY:  # no half a model stays behind
                        await asyncio.gather(*map(self._client.unload_model, parts), return_exceptions=True)
                    raise _control_error(error, f"load {part}") from error
            await self.models()
        return self.model(model)

    async def unload(self, model: str, progress: Callable[[str], None] = lambda _: None) -> None:
        """Has Triton unload a model: new sessions are refused at once, what was asked of it is answered first.

        Raises `UnknownModel` when it is not loaded, `EngineRejected` when Triton does not let models be unloaded.
        """
        name = f"{ASR_PREFIX}{model}"
        async with self._control:
            await self.models()
            self.model(model)
            if self._infos:
                self._infos.pop(model, None)
            for part in (name, f"{name}{ENCODER_SUFFIX}"):  # the encoder last: running decodes call it
                progress(f"unloading {part}")
                try:
                    await self._client.unload_model(part, client_timeout=self.patience.call)
                except InferenceServerException as error:
                    await self.models()
                    raise _control_error(error, f"unload {part}") from error
                await self._until_unloaded(part)
            await self.models()

    async def _until_unloaded(self, name: str) -> None:
        deadline = time.monotonic() + self.patience.call
        while (await self._states()).get(name) in (READY, "UNLOADING"):
            if time.monotonic() > deadline:
                raise EngineUnavailable(f"Triton is still busy with {name}; try again")
            await asyncio.sleep(0.05)

    async def canary(self) -> None:
        """Every Whisper answers a reset and the VAD takes a frame: cheap whatever the size, and never behind a decode."""
        for info in await self.models():
            inputs = {"audio": np.zeros((1, 0), np.int16), "command": np.array([[Decode.RESET]], np.int32)}
            await self._unless_gone(
                self.infer(f"{ASR_PREFIX}{info.name}", inputs, ["text"], self.next_id(), start=True, end=True)
            )
        vad = self.vad_stream()
        await vad.call(np.zeros(FRAME, np.int16))
        await vad.close()

    async def canary_encoders(self) -> None:
        """One frame of silence through every encoder. Not for TensorRT: it rebuilds an engine for a length it never saw."""
        for info in await self.models():
            inputs = {"audio": np.zeros((1, ENCODER_FRAME), np.int16)}
            name = f"{ASR_PREFIX}{info.name}{ENCODER_SUFFIX}"
            await self._unless_gone(self.infer(name, inputs, ["hidden_states"], 0, start=False))

    async def try_out(self) -> None:
        """100 ms of silence through every Whisper, encoder and decoder included: a whole window's work for each."""
        for info in await self.models():
            stream = self.asr_stream(info.name, info.languages[0] if info.languages else "en")
            await self._unless_gone(stream.decode(RunAsr(Decode.PARTIAL, 0, 0, 1600), np.zeros(1600, np.int16)))
            await stream.close()

    async def _unless_gone(self, work: Awaitable[object]) -> None:
        try:
            await work
        except UnknownModel as error:
            log.debug("unloaded meanwhile: %s", error)

    # --- requests -------------------------------------------------------------------------------------------------

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
            raise await self._explained(translate(error), model) from error
        return {name: result.as_numpy(name) for name in outputs}

    async def _explained(self, error: VoiceForgeError, model: str) -> VoiceForgeError:
        """A model that Triton does not have may be on its way; else the error names those that are there."""
        if not isinstance(error, ModelGone) or not model.startswith(ASR_PREFIX):
            return error
        states = await self._states()
        if states.get(model) == "LOADING":
            return EngineUnavailable(f"Triton is loading {model}")
        await self.models()
        return ModelGone(self._not_loaded(model.removeprefix(ASR_PREFIX)))


def _control_error(error: InferenceServerException, what: str) -> VoiceForgeError:
    message = str(error.message())
    if "is not allowed" in message:
        return EngineRejected(f"cannot {what}: start Triton with --model-control-mode=explicit")
    if isinstance(translated := translate(error), EngineUnavailable) and "failed to" not in message:
        return translated
    return EngineRejected(f"cannot {what}: {message}")


def translate(error: InferenceServerException) -> EngineUnavailable | EngineRejected | ModelGone:
    """tritonclient's one exception, by what can be done about it."""
    status, message = str(error.status() or ""), str(error.message())
    if "unknown model" in message:
        return ModelGone(f"Triton: {message}")
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
        self.model = model
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
