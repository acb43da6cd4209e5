"""Numbers survive the way through Triton. With numpy 2 in the stub they would not: inputs read as zeros, outputs empty."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client

from frontend.inference.engine import TritonEngine
from tests.engine.client import vad
from tests.export.checkpoints import local_session

live = pytest.mark.asyncio(loop_scope="package")  # the loop that the shared server and its client live in


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20_000, 20_000, n).astype(np.int16)


@pytest.fixture
def address(triton) -> str:
    return triton.address


def infer(address: str, model: str, inputs: dict[str, np.ndarray], outputs: list[str], **options) -> dict:
    client = grpc_client.InferenceServerClient(address)
    try:
        sent = []
        for name, value in inputs.items():
            kind = {"int16": "INT16", "int32": "INT32", "float32": "FP32", "object": "BYTES"}[value.dtype.name]
            sent.append(grpc_client.InferInput(name, list(value.shape), kind))
            sent[-1].set_data_from_numpy(value)
        wanted = [grpc_client.InferRequestedOutput(n) for n in outputs]
        result = client.infer(model, sent, outputs=wanted, **options)
        return {n: result.as_numpy(n) for n in outputs}
    finally:
        client.close()


def test_numpy_is_older_than_2():
    assert int(version("numpy").split(".")[0]) < 2


@live
async def test_the_encoder_gives_the_values_of_the_same_file_run_here(address: str, repository: Path):
    local = local_session(repository / "whisper_nano_encoder" / "1" / "model.onnx")
    for seconds in (1, 3):
        audio = noise(seconds * 16_000)[None]
        (expected,) = local.run(["hidden_states"], {"audio": audio})
        assert expected.std() > 0.1
        found = infer(address, "whisper_nano_encoder", {"audio": audio}, ["hidden_states"])["hidden_states"]
        np.testing.assert_array_equal(found, expected)


@live
async def test_a_batch_of_windows_gives_each_its_own_values(address: str, repository: Path):
    local = local_session(repository / "whisper_nano_encoder" / "1" / "model.onnx")
    audio = np.stack([noise(16_000, seed) for seed in range(4)])
    (expected,) = local.run(["hidden_states"], {"audio": audio})
    found = infer(address, "whisper_nano_encoder", {"audio": audio}, ["hidden_states"])["hidden_states"]
    np.testing.assert_array_equal(found, expected)


@live
async def test_the_vad_gives_the_values_of_the_same_file_run_here(engine: TritonEngine, repository: Path, spoken):
    local = local_session(repository / "silero_vad" / "1" / "model.onnx")
    for audio in (spoken[0], noise(512 * 20)):
        zeros = {n: np.zeros((1, size), np.float32) for n, size in (("c", 128), ("context", 64), ("h", 128))}
        (expected,) = local.run(["probabilities"], {"audio": audio[None], **{f"state_{n}": v for n, v in zeros.items()}})
        found = await vad(engine, engine.servers[0].next_id(), audio, start=True, end=True)
        np.testing.assert_array_equal(found, expected[0])


PROBE = """
import sys
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(r) for r in requests]

    def answer(self, request):
        get = lambda n: pb_utils.get_input_tensor_by_name(request, n).as_numpy()
        pcm, floats, text = get("pcm"), get("floats"), get("text")
        told = np.array([[np.__version__.encode(), sys.prefix.encode(), text.reshape(-1)[0]]], np.object_)
        return pb_utils.InferenceResponse([
            pb_utils.Tensor("pcm_out", pcm.copy()),
            pb_utils.Tensor("doubled", floats * 2),
            pb_utils.Tensor("told", told),
        ])
"""
CONFIG = """
name: "probe" backend: "python" max_batch_size: 8
input [
  { name: "pcm" data_type: TYPE_INT16 dims: [ -1 ] },
  { name: "floats" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "text" data_type: TYPE_STRING dims: [ 1 ] }
]
output [
  { name: "pcm_out" data_type: TYPE_INT16 dims: [ -1 ] },
  { name: "doubled" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "told" data_type: TYPE_STRING dims: [ -1 ] }
]
"""


async def test_the_stub_runs_an_old_numpy_of_this_environment_and_hands_every_type_through(tmp_path: Path, start):
    """Asked from inside Triton's Python stub, where the corruption would happen."""
    (tmp_path / "probe" / "1").mkdir(parents=True)
    (tmp_path / "probe" / "1" / "model.py").write_text(PROBE)
    (tmp_path / "probe" / "config.pbtxt").write_text(CONFIG)
    inputs = {
        "pcm": noise(5_000)[None],
        "floats": np.linspace(-3, 3, 777, dtype=np.float32)[None],
        "text": np.array([["Grüße 語".encode()]], np.object_),
    }
    outputs = ["pcm_out", "doubled", "told"]

    async def answers(address: str, **_: object) -> list[str]:
        infer(address, "probe", inputs, outputs, client_timeout=5)
        return ["probe"]

    server = await start(tmp_path, answers)
    found = infer(server.address, "probe", inputs, outputs)
    np.testing.assert_array_equal(found["pcm_out"], inputs["pcm"])
    np.testing.assert_array_equal(found["doubled"], inputs["floats"] * 2)
    numpy_version, prefix, echoed = (v.decode() for v in found["told"].reshape(-1))
    assert numpy_version == version("numpy")
    assert Path(prefix).resolve() == Path(sys.prefix).resolve()
    assert echoed == "Grüße 語"
