"""`config.pbtxt` of each model: what the NGC image's native backends and the embedded Triton both take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from export.engine.scores import WIDEST
from export.silero import STATES

ENGINE_IDLE_S = 90
"""Longer than the front end's 10 s no-data timeout with room for a stalled network; Triton's default of 1 s is a trap."""


@dataclass(frozen=True)
class Tensor:
    name: str
    type: str
    dims: Sequence[int]
    optional: bool = False
    ragged: bool = False


def _tensor(kind: str, t: Tensor) -> str:
    lines = [f'    name: "{t.name}"', f"    data_type: TYPE_{t.type}", f"    dims: [ {', '.join(map(str, t.dims))} ]"]
    lines += ["    allow_ragged_batch: true"] if t.ragged else []
    lines += ["    optional: true"] if t.optional else []
    return f"{kind} [\n  {{\n" + "\n".join(lines) + "\n  }\n]"


def _model(
    name: str, backend: str, max_batch: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *blocks: str,
    instances: int = 1,
) -> str:  # fmt: skip
    head = [f'name: "{name}"', f'backend: "{backend}"', f"max_batch_size: {max_batch}"]
    tensors = [_tensor("input", t) for t in inputs] + [_tensor("output", t) for t in outputs]
    return "\n".join([*head, *tensors, *blocks, f"instance_group [ {{ count: {instances} }} ]"]) + "\n"


def _parameters(values: Mapping[str, str | int]) -> str:
    quoted = {k: json.dumps(str(v), ensure_ascii=False) for k, v in values.items()}  # escapes as protobuf's text format does
    return "\n".join(f'parameters {{ key: "{k}" value: {{ string_value: {v} }} }}' for k, v in quoted.items())


# One thread an operator: throughput comes from batches and from models side by side, not from splitting small matrices.
_ORT_THREADS = {"intra_op_thread_count": 1, "inter_op_thread_count": 1}


def silero_vad(max_sequences: int = 1024, idle_s: int = ENGINE_IDLE_S, name: str = "silero_vad", instances: int = 1) -> str:
    states = ",\n".join(
        f'    {{\n      input_name: "state_{n}"\n      output_name: "next_{n}"\n'
        f"      data_type: TYPE_FP32\n      dims: [ {size} ]\n"
        f'      initial_state: {{ name: "zero" data_type: TYPE_FP32 dims: [ {size} ] zero_data: true }}\n    }}'
        for n, size in STATES.items()
    )
    return _model(
        name,
        "onnxruntime",
        64,
        [Tensor("audio", "INT16", [-1])],
        [Tensor("probabilities", "FP32", [-1])],
        f"sequence_batching {{\n  max_sequence_idle_microseconds: {idle_s * 1_000_000}\n"
        f"  oldest {{ max_candidate_sequences: {max_sequences} }}\n  state [\n{states}\n  ]\n}}",
        _parameters(_ORT_THREADS),
        instances=instances,
    )


ENCODER_BATCH = 16


@dataclass(frozen=True)
class Tuning:
    """How the engine runs a model. Raises `ValueError` for what it does not know."""

    device: str = "cpu"
    """`cuda`: encoder and decoder in the engine's own process, everything in slots on the GPU."""
    slots: bool = False
    """So on a CPU too: for tests, it computes more than needed there."""
    max_rows: int = 32
    """Rows that are decoded together, in each instance: a stream each, or a text each of a stream's beam."""
    encoder_batch: int = ENCODER_BATCH
    instances: int = 1
    """Processes. What is between two steps is Python and takes one core of each; on a GPU that is what bounds them."""
    cuda_graphs: bool = False
    beam_size: int = 0
    """Texts that are followed at once, each in a row; 0: as many as the checkpoint says."""

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device {self.device!r} is not cpu or cuda")
        if wrong := [n for n in ("max_rows", "encoder_batch", "instances") if getattr(self, n) < 1]:
            raise ValueError(f"{', '.join(wrong)} must be at least 1")
        if not 0 <= self.beam_size <= WIDEST:
            raise ValueError(f"beam_size {self.beam_size} is not between 1 and {WIDEST}, or 0 for what the checkpoint says")

    @property
    def in_slots(self) -> bool:
        return self.slots or self.device == "cuda"

    def parameters(self) -> dict[str, str | int]:
        """What the engine reads of it in the model's config."""
        return {
            "device": self.device,
            "slots": "true" if self.in_slots else "false",
            "cuda_graphs": "true" if self.cuda_graphs else "false",
            "encoder_batch": self.encoder_batch,
            "max_rows": self.max_rows,
            **({"beam_size": self.beam_size} if self.beam_size else {}),
        }

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> Tuning:
        """Of `key=value`s."""
        kinds = {f.name: type(f.default) for f in fields(cls)}
        found: dict[str, Any] = {}
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name not in kinds:
                raise ValueError(f"{pair!r}: what can be tuned is {', '.join(kinds)}, as name=value")
            try:
                found[name] = {"true": True, "false": False}[value] if kinds[name] is bool else kinds[name](value)
            except (KeyError, ValueError):
                takes = "true or false" if kinds[name] is bool else "a number"
                raise ValueError(f"{pair!r}: {name} takes {takes}") from None
        return cls(**found)


FOR_A_CPU = Tuning()


def whisper_encoder(name: str, d_model: int, max_batch: int = ENCODER_BATCH) -> str:
    """Without Triton's batcher: the decode engine asks for windows of one length at once."""
    return _model(
        name,
        "onnxruntime",
        max_batch,
        [Tensor("audio", "INT16", [-1])],
        [Tensor("hidden_states", "FP32", [-1, d_model])],
        _parameters(_ORT_THREADS),
    )


def whisper(
    name: str, parameters: Mapping[str, str | int], max_sequences: int = 1024, idle_s: int = ENGINE_IDLE_S,
    instances: int = 1,
) -> str:  # fmt: skip
    """The decode engine: a Python model behind the sequence batcher; see `export/engine/model.py` for the tensors."""
    return _model(
        name,
        "python",
        64,
        [
            Tensor("audio", "INT16", [-1], ragged=True),
            Tensor("command", "INT32", [1]),
            Tensor("prefix", "INT32", [-1], optional=True, ragged=True),
            Tensor("context", "INT32", [-1], optional=True, ragged=True),
            Tensor("language", "STRING", [1], optional=True),
            Tensor("task", "STRING", [1], optional=True),
            Tensor("alternatives", "INT32", [1], optional=True),
        ],
        [
            Tensor("tokens", "INT32", [-1]),
            Tensor("token_logprobs", "FP32", [-1]),
            Tensor("words", "STRING", [-1]),
            Tensor("word_tokens", "INT32", [-1]),
            Tensor("word_times", "INT32", [-1, 2]),
            Tensor("word_probabilities", "FP32", [-1]),
            Tensor("word_alternatives", "STRING", [-1]),
            Tensor("text", "STRING", [1]),
            Tensor("no_speech_probability", "FP32", [1]),
            Tensor("language", "STRING", [1]),
            Tensor("language_probability", "FP32", [1]),
            Tensor("temperature", "FP32", [1]),
            Tensor("window_samples", "INT32", [1]),
            Tensor("timings_ms", "FP32", [3]),
        ],
        f"sequence_batching {{\n  max_sequence_idle_microseconds: {idle_s * 1_000_000}\n"
        f"  oldest {{ max_candidate_sequences: {max_sequences} }}\n}}",
        _parameters(parameters),
        instances=instances,
    )
