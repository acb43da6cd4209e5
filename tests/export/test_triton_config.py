"""The config.pbtxt texts, read as Triton reads them: as ModelConfig protobufs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export import silero, triton_config
from export.silero import STATES

NUMBERS = model_config_pb2.DataType.Value
ONNX_TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.INT16: "TYPE_INT16",
    onnx.TensorProto.INT64: "TYPE_INT64",
}


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors(listed) -> dict[str, tuple[str, list[int]]]:
    return {t.name: (model_config_pb2.DataType.Name(t.data_type), list(t.dims)) for t in listed}


def onnx_tensors(values) -> dict[str, tuple[str, list[int]]]:
    """Without the batch dimension; -1 where the graph leaves a dimension open."""
    return {
        v.name: (
            ONNX_TYPES[v.type.tensor_type.elem_type],
            [d.dim_value or -1 for d in v.type.tensor_type.shape.dim][1:],
        )
        for v in values
    }


def test_the_vad_keeps_its_state_per_sequence_and_for_long_enough():
    config = parse(triton_config.silero_vad(max_sequences=77, idle_s=12))
    assert (config.name, config.backend, config.max_batch_size) == ("silero_vad", "onnxruntime", 64)
    batching = config.sequence_batching
    assert batching.max_sequence_idle_microseconds == 12_000_000
    assert batching.WhichOneof("strategy_choice") == "oldest"
    assert batching.oldest.max_candidate_sequences == 77
    assert {s.input_name: (s.output_name, list(s.dims)) for s in batching.state} == {
        f"state_{name}": (f"next_{name}", [size]) for name, size in STATES.items()
    }
    for state in batching.state:
        (initial,) = state.initial_state
        assert initial.zero_data
        assert initial.data_type == state.data_type == NUMBERS("TYPE_FP32")
        assert initial.dims == state.dims


def test_states_are_named_so_that_inputs_and_outputs_sort_alike():
    """Triton pairs implicit states by their order."""
    config = parse(triton_config.silero_vad())
    inputs = [s.input_name.removeprefix("state_") for s in config.sequence_batching.state]
    outputs = [s.output_name.removeprefix("next_") for s in config.sequence_batching.state]
    assert inputs == outputs == sorted(inputs)


def test_the_vad_config_is_that_of_its_graph():
    """Native backends refuse a config that says anything else than the ONNX file."""
    config, graph = parse(triton_config.silero_vad()), silero.graph(silero.asset()).build().graph
    states = config.sequence_batching.state
    declared = tensors(config.input) | {s.input_name: ("TYPE_FP32", list(s.dims)) for s in states}
    assert declared == onnx_tensors(graph.input)
    given = tensors(config.output) | {s.output_name: ("TYPE_FP32", list(s.dims)) for s in states}
    assert given == onnx_tensors(graph.output)


def test_the_encoder_takes_pcm_in_the_batches_that_the_engine_makes():
    config = parse(triton_config.whisper_encoder("whisper_x_encoder", 512, max_batch=9))
    assert (config.name, config.backend, config.max_batch_size) == ("whisper_x_encoder", "onnxruntime", 9)
    assert config.WhichOneof("scheduling_choice") is None  # Triton's batcher would spin on windows of another length
    assert tensors(config.input) == {"audio": ("TYPE_INT16", [-1])}
    assert tensors(config.output) == {"hidden_states": ("TYPE_FP32", [-1, 512])}


def test_the_decode_engine_is_a_python_model_behind_the_sequence_batcher():
    parameters = {"encoder": "whisper_x_encoder", "windows_s": "1,30", "max_rows": 32}
    config = parse(triton_config.whisper("whisper_x", parameters, max_sequences=55, idle_s=7))
    assert (config.name, config.backend) == ("whisper_x", "python")
    assert config.max_batch_size > 1
    assert not config.model_transaction_policy.decoupled
    batching = config.sequence_batching
    assert batching.max_sequence_idle_microseconds == 7_000_000
    assert batching.oldest.max_candidate_sequences == 55
    assert {k: v.string_value for k, v in config.parameters.items()} == {k: str(v) for k, v in parameters.items()}
    inputs = {t.name: t for t in config.input}
    assert inputs["audio"].allow_ragged_batch  # windows of streams differ
    assert {n for n, t in inputs.items() if t.optional} == {"prefix", "context", "language", "task", "alternatives"}
    assert tensors(config.output)["word_times"] == ("TYPE_INT32", [-1, 2])
    assert tensors(config.output)["tokens"] == ("TYPE_INT32", [-1])


@pytest.mark.parametrize(
    "text",
    [
        triton_config.silero_vad(),
        triton_config.whisper_encoder("whisper_x_encoder", 64),
        triton_config.whisper("whisper_x", {"encoder": "e"}),
    ],
    ids=["vad", "encoder", "engine"],
)
def test_every_model_has_one_instance_so_that_its_sequences_meet_their_state(text: str):
    (group,) = parse(text).instance_group
    assert group.count == 1


def test_an_idle_sequence_outlives_every_pause_that_the_front_end_allows():
    for text in (triton_config.silero_vad(), triton_config.whisper("whisper_x", {})):
        assert parse(text).sequence_batching.max_sequence_idle_microseconds > 30_000_000


def test_the_exported_folders_carry_configs_of_their_own_name(repository: Path):
    for model in ("silero_vad", "whisper_nano", "whisper_nano_encoder"):
        assert parse((repository / model / "config.pbtxt").read_text()).name == model


@pytest.mark.parametrize("model", ["whisper_nano_encoder", "silero_vad"])
def test_configs_of_exported_models_are_those_of_their_graphs(model: str, repository: Path):
    config = parse((repository / model / "config.pbtxt").read_text())
    graph = onnx.load(str(repository / model / "1" / "model.onnx")).graph
    found = onnx_tensors(graph.input)
    assert {n: found[n] for n in tensors(config.input)} == tensors(config.input)
    found = onnx_tensors(graph.output)
    assert {n: found[n] for n in tensors(config.output)} == tensors(config.output)
