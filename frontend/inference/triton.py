"""The Triton client: the only module that imports `tritonclient`, and where its errors become ours.

One gRPC channel a server and process; unary calls, one in flight a sequence (a multiplexed stream would answer in order
and hold sessions up behind each other).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc.aio as grpc_client
from tritonclient.utils import InferenceServerException

from frontend.errors import EngineRejected, EngineUnavailable, ModelGone, UnknownModel, VoiceForgeError
from frontend.inference.models import ModelInfo
from frontend.speech.events import Decode
from frontend.speech.vad_gate import FRAME

log = logging.getLogger(__name__)
Tensors = dict[str, npt.NDArray[Any]]

VAD_MODEL = "silero_vad"
ASR_PREFIX, ENCODER_SUFFIX = "whisper_", "_encoder"
READY = "READY"
ENCODER_FRAME = 320  # samples
SUSPECT_S = 1.0
"""After a failed request other servers are asked first for so long."""
TASKS = ("transcribe", "translate")
_BROKEN_SEQUENCE = ("must specify the START flag", "send START first", "was not found", "is not healthy")
_NO_ROOM = "shared memory pool size"
"""`/dev/shm` is full just now."""
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
"""What is asked of a Whisper."""


class TritonServer:
    """One Triton: requests, its models, whether it lives."""

    def __init__(self, address: str, patience: Patience = Patience()) -> None:
        self.address, self.patience = address, patience
        self.held = 0
        """Sequences of ours that are open there."""
        self._away_until = 0.0
        self._client = _connected(address)
        self._ids = itertools.count(secrets.randbits(62) | 1)
        self._infos: dict[str, ModelInfo] | None = None
        self._unloaded: list[str] = []
        self._control = asyncio.Lock()

    def next_id(self) -> int:
        """A correlation id that no other front end is likely to use."""
        return next(self._ids) % (2**63)

    # --- whether it lives -----------------------------------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Something went wrong with it just now: others first, if there are any."""
        return time.monotonic() < self._away_until

    def suspect(self, seconds: float = SUSPECT_S) -> None:
        self._away_until = time.monotonic() + seconds

    async def watch_over(self, every_s: float = 1.0, limit_s: float = 3.0) -> None:
        """Asks for a sign of life for ever. Where none comes, what is under way is given up at once, not at its time-out."""
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    await self.canary()
                self._away_until = 0.0
            except (TimeoutError, EngineUnavailable, EngineRejected) as error:
                if not self.away:
                    log.warning("Triton at %s is away: %s", self.address, error or "no answer")
                self.suspect(float("inf"))
                client, self._client = self._client, _connected(self.address)
                await client.close()
            await asyncio.sleep(every_s)

    # --- models ---------------------------------------------------------------------------------------------------

    def model(self, name: str) -> ModelInfo:
        """What the last look at Triton said of a model; raises `UnknownModel` when it was not loaded."""
        if self._infos is None:  # nobody has looked yet: let Triton decide
            return ModelInfo(name, True, (), TASKS)
        if name not in self._infos:
            raise UnknownModel(self._not_loaded(name))
        return self._infos[name]

    def serves(self, triton_name: str) -> bool:
        """Whether the last look found it loaded; the VAD always is."""
        name = triton_name.removeprefix(ASR_PREFIX)
        return self._infos is None or name == triton_name or name in self._infos

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

    async def canary(self, asking: Callable[[str], None] = lambda _: None) -> None:
        """Every Whisper answers a reset and the VAD takes a frame: cheap whatever the size, and never behind a decode.

        `asking` is told the name of each model before it is asked.
        """
        for info in await self.models():
            inputs = {"audio": np.zeros((1, 0), np.int16), "command": np.array([[Decode.RESET]], np.int32)}
            name = f"{ASR_PREFIX}{info.name}"
            asking(name)
            await self._unless_gone(self.infer(name, inputs, ["text"], self.next_id(), start=True, end=True))
        asking(VAD_MODEL)
        frame = {"audio": np.zeros((1, FRAME), np.int16)}
        await self.infer(VAD_MODEL, frame, ["probabilities"], self.next_id(), start=True, end=True)

    async def canary_encoders(self, asking: Callable[[str], None] = lambda _: None) -> None:
        """One frame of silence through every encoder; `asking` as with `canary`.

        Not for TensorRT: it rebuilds an engine for a length it never saw.
        """
        for info in await self.models():
            inputs = {"audio": np.zeros((1, ENCODER_FRAME), np.int16)}
            name = f"{ASR_PREFIX}{info.name}{ENCODER_SUFFIX}"
            asking(name)
            await self._unless_gone(self.infer(name, inputs, ["hidden_states"], 0, start=False))

    async def try_out(self) -> None:
        """100 ms of silence through every Whisper, encoder and decoder included: a whole window's work for each."""
        for info in await self.models():
            language = info.languages[0] if info.languages else "en"
            inputs: Tensors = {
                "audio": np.zeros((1, 1600), np.int16),
                "command": np.array([[Decode.PARTIAL]], np.int32),
                "language": np.array([[language.encode()]], np.object_),
            }
            name = f"{ASR_PREFIX}{info.name}"
            await self._unless_gone(self.infer(name, inputs, OUTPUTS, self.next_id(), start=True, end=True))

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
        client = self._client
        try:
            result: Any = await client.infer(
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
        except asyncio.CancelledError:
            if client is self._client:
                raise
            raise EngineUnavailable(f"Triton at {self.address} gives no sign of life") from None  # see `watch_over`
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


def _connected(address: str) -> Any:
    return grpc_client.InferenceServerClient(
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
    if any(word in status for word in _AWAY) or any(text in message for text in (*_BROKEN_SEQUENCE, _NO_ROOM)):
        return EngineUnavailable(f"Triton: {message}")
    return EngineRejected(f"Triton refused the request ({status}): {message}")
