"""TensorRT: the command and the configs; no plan is built here."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export import triton_config
from export.tensorrt import Build, Profile, accelerated_config, encoder_build, plan_config

BUILD = encoder_build(Path("models/whisper_base_encoder"), [1, 2, 5, 30], max_batch=8)


def test_the_command_names_explicit_shapes_for_the_whole_range_of_windows_and_batches():
    command = BUILD.command()
    assert command[0] == "trtexec"
    assert "--onnx=models/whisper_base_encoder/1/model.onnx" in command
    assert "--saveEngine=models/whisper_base_encoder/1/model.plan" in command
    assert "--minShapes=audio:1x16000" in command
    assert "--optShapes=audio:4x80000" in command
    assert "--maxShapes=audio:8x480000" in command
    assert "--fp16" in command
    assert "--memPoolSize=workspace:4096M" in command


def test_fp32_is_built_without_the_fp16_flag():
    assert "--fp16" not in encoder_build(Path("m"), [30], fp16=False).command()


def test_several_inputs_are_listed_in_one_flag():
    profiles = [Profile("a", (1, 2), (1, 2), (4, 2)), Profile("b", (1,), (2,), (3,))]
    assert "--maxShapes=a:4x2,b:3" in Build(Path("m.onnx"), Path("m.plan"), profiles).command()


@pytest.mark.parametrize("shapes", [((2,), (1,), (3,)), ((1,), (4,), (3,)), ((1, 2), (1,), (3,))])
def test_a_profile_out_of_order_is_refused(shapes: tuple[tuple[int, ...], ...]):
    with pytest.raises(ValueError, match="profile of audio"):
        Profile("audio", *shapes)


def test_without_tensorrt_the_error_says_where_to_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="inside the NGC"):
        BUILD.run()


def test_the_plan_config_serves_the_plan_with_the_same_tensors():
    onnx = text_format.Parse(triton_config.whisper_encoder("whisper_x_encoder", 512), model_config_pb2.ModelConfig())
    plan = text_format.Parse(
        plan_config(triton_config.whisper_encoder("whisper_x_encoder", 512)), model_config_pb2.ModelConfig()
    )
    assert plan.backend == "tensorrt"
    assert plan.default_model_filename == "model.plan"
    assert (plan.input, plan.output, plan.max_batch_size) == (onnx.input, onnx.output, onnx.max_batch_size)
    assert not plan.parameters
    with pytest.raises(ValueError, match="not the config"):
        plan_config('backend: "python"')


def test_the_accelerated_config_gives_onnx_runtime_the_same_profiles():
    text = accelerated_config(triton_config.whisper_encoder("whisper_x_encoder", 512), BUILD)
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["trt_profile_min_shapes"] == "audio:1x16000"
    assert accelerator.parameters["trt_profile_max_shapes"] == "audio:8x480000"
    assert accelerator.parameters["precision_mode"] == "FP16"
    assert accelerator.parameters["trt_layer_norm_fp32_fallback"] == "1"
