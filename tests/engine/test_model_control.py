"""Models come and go in a running Triton; what was asked of them is answered, and a restart brings back what was loaded."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from export.repository import NANO, export_whisper
from frontend.embedded.layout import announced
from frontend.errors import EngineRejected, ModelGone, UnknownLanguage, UnknownModel
from frontend.inference.triton import triton_names
from frontend.speech.events import Decode, RunAsr


@pytest.fixture(scope="module")
def two(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(repository, tmp_path_factory.mktemp("two") / "models", ignore=shutil.ignore_patterns(".*"))
    export_whisper(str(NANO), folder, name="small", precision="int8")
    return folder


def whole(audio: np.ndarray) -> RunAsr:
    return RunAsr(Decode.FINAL, 0, 0, len(audio))


async def test_only_the_models_asked_for_are_loaded_and_described(two: Path, start, connect):
    server = await start(two, models=triton_names(["small"]))
    engine = connect(server)
    (info,) = await engine.models()
    assert (info.name, info.precision, info.multilingual, info.languages) == ("small", "int8", False, ("en",))
    assert info.windows_s == (1, 2, 3, 4, 5, 6, 8, 10, 12)
    assert await engine.repository() == {"nano": False, "small": True}
    with pytest.raises(UnknownModel, match=r"'nano' is in the repository but not loaded.*there is small"):
        engine.asr_stream("nano", "en")
    with pytest.raises(UnknownLanguage, match="English-only"):
        engine.asr_stream("small", "fr")
    assert announced(two) == [server.address]


async def test_what_was_asked_before_an_unload_is_answered_and_what_comes_later_is_refused(
    two: Path, start, connect, spoken
):
    server = await start(two)
    engine = connect(server)
    await engine.models()
    streams = [engine.asr_stream("small", "en") for _ in range(16)]
    running = [asyncio.create_task(s.decode(whole(a), a)) for s, a in zip(streams, spoken * 4, strict=False)]
    await asyncio.sleep(0.05)  # on their way
    said: list[str] = []
    await engine.unload("small", said.append)
    assert said == ["unloading whisper_small", "unloading whisper_small_encoder"]
    answers = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(a, ModelGone) or a.tokens for a in answers)
    assert any(not isinstance(a, ModelGone) for a in answers)
    with pytest.raises(ModelGone, match="there is nano"):
        await streams[0].decode(whole(spoken[0]), spoken[0])
    with pytest.raises(UnknownModel, match="there is nano"):
        engine.asr_stream("small", "en")
    await engine.load("small")
    assert (await engine.asr_stream("small", "en").decode(whole(spoken[0]), spoken[0])).tokens


async def test_a_restart_loads_what_was_loaded(two: Path, start, connect, spoken):
    server = await start(two, models=triton_names(["nano"]))
    engine = connect(server)
    await engine.models()
    await engine.load("small")
    await asyncio.sleep(2)  # a canary goes by
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while server.restarts == 0:
            await asyncio.sleep(0.1)
    assert [m.name for m in await engine.models()] == ["nano", "small"]
    await engine.unload("nano")
    await asyncio.sleep(2)
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while server.restarts == 1:
            await asyncio.sleep(0.1)
    assert [m.name for m in await engine.models()] == ["small"]


async def test_a_model_exported_while_the_server_runs_can_be_loaded(two: Path, start, connect, spoken, tmp_path: Path):
    folder = shutil.copytree(two, tmp_path / "models", ignore=shutil.ignore_patterns(".*"))
    server = await start(folder, models=triton_names(["nano"]))
    engine = connect(server)
    await asyncio.to_thread(export_whisper, str(NANO), folder, name="later")
    info = await engine.load("later")
    assert info.name == "later"
    assert (await engine.asr_stream("later", "en").decode(whole(spoken[0]), spoken[0])).tokens
    with pytest.raises(UnknownModel, match="the repository holds no model 'never'; it holds later, nano, small"):
        await engine.load("never")


async def test_a_model_that_cannot_be_loaded_leaves_no_half_of_it(two: Path, start, connect, tmp_path: Path):
    folder = shutil.copytree(two, tmp_path / "models", ignore=shutil.ignore_patterns(".*"))
    (folder / "whisper_small" / "1" / "decoder.onnx").write_bytes(b"no graph")
    server = await start(folder, models=triton_names(["nano"]))
    engine = connect(server)
    with pytest.raises(EngineRejected, match=r"cannot load whisper_small: .*decoder\.onnx"):
        await engine.load("small")
    async with asyncio.timeout(20):
        while "whisper_small_encoder" in await engine.servers[0].loaded():
            await asyncio.sleep(0.1)
    assert [m.name for m in await engine.models()] == ["nano"]
    assert server.healthy
