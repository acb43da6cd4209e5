"""Several models in one server: served by name, loaded and unloaded as it runs, refused by errors that say what is there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from export.repository import NANO, export_whisper
from tests.conftest import ROOT, Server, client
from tests.export.test_variants import VARIANTS, save

TEXT = "Please open the window in the kitchen."


@pytest.fixture(scope="module")
def models(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano, nano once more as `small`, and `many`, which is multilingual (and babbles: its weights are random)."""
    folder = shutil.copytree(repository, tmp_path_factory.mktemp("several") / "models", ignore=shutil.ignore_patterns(".*"))
    export_whisper(str(NANO), folder, name="small", precision="int8")
    many = save(VARIANTS["large-v3"], tmp_path_factory.mktemp("many"))
    export_whisper(str(many), folder, name="many")
    return folder


@pytest.fixture(scope="module")
def several(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(models, tmp_path_factory.mktemp("server") / "log.txt", models=("nano", "many"))
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert not list(models.glob(".serving-*"))


def command(models: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "frontend", "models", *arguments, "--model-repository", str(models)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip


async def refusal(server: Server, query: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{server.ws}?{query}")
    return refused.value.response.status_code, json.loads(refused.value.response.body)["error"]


async def test_sessions_choose_a_model_and_the_first_is_the_default(several: Server, speak):
    async with client(several.ws) as one, client(several.ws, model="many", language="de") as other:
        assert [c.messages[0]["model"] for c in (one, other)] == ["nano", "many"]
        assert [c.messages[0]["limits"]["max_segment_s"] for c in (one, other)] == [11, 29]  # the windows of each
        for c in (one, other):
            await c.audio(speak(TEXT).audio)
            assert (await c.finish())["finals"] >= 1
        assert one.text()


async def test_an_unknown_language_is_refused_by_a_list_of_those_the_model_knows(several: Server):
    status, error = await refusal(several, "model=many&language=xx")
    assert (status, error["code"]) == (400, "UNKNOWN_LANGUAGE")
    assert "it knows en, zh, de," in error["message"]
    assert "yue" in error["message"]


async def test_an_english_only_model_says_that_it_is(several: Server):
    status, error = await refusal(several, "language=fr")
    assert (status, error["code"]) == (400, "UNKNOWN_LANGUAGE")
    assert "'nano' is English-only" in error["message"]


async def test_a_language_that_is_configured_later_is_checked_too_and_the_stream_goes_on(several: Server, speak):
    async with client(several.ws, model="many") as c:
        await c.send(type="configure", config={"language": "xx"})
        error = (await c.until("error"))["error"]
        assert (error["code"], error["fatal"]) == ("UNKNOWN_LANGUAGE", False)
        await c.send(type="configure", config={"language": "pt-BR"})
        assert (await c.until("configured"))["config"]["language"] == "pt-BR"
        await c.finish()


async def test_models_are_loaded_into_the_running_server_and_unloaded_again(several: Server, models: Path, speak):
    status, error = await refusal(several, "model=small")
    assert (status, error["code"]) == (404, "UNKNOWN_MODEL")
    assert "voiceforge models load small" in error["message"]
    assert "there is many, nano" in error["message"]

    done = await asyncio.to_thread(command, models, "load", "small")
    assert done.returncode == 0, done.stderr
    assert "loading whisper_small_encoder" in done.stderr
    assert "small is loaded: en, windows up to 12 s" in done.stderr
    listed = (await asyncio.to_thread(command, models, "list")).stdout
    for line in listed.splitlines():
        if line.startswith(("│ small", "│ many")):
            assert "loaded" in line
    assert "100 languages" in listed

    await until_known(several, "small")
    async with client(several.ws, model="small") as running:
        await running.audio(speak(TEXT).audio)
        await running.send(type="finalize")
        assert (await running.until("final"))["transcript"]
        done = await asyncio.to_thread(command, models, "unload", "small")
        assert done.returncode == 0, done.stderr
        await running.audio(speak(TEXT).audio)
        await running.send(type="finalize")
        error = (await running.until("error"))["error"]
        assert (error["code"], error["fatal"]) == ("UNKNOWN_MODEL", True)
        assert "there is many, nano" in error["message"]
        assert (await running.until("closed"))["reason"] == "UNKNOWN_MODEL"
    assert (await refusal(several, "model=small"))[1]["code"] == "UNKNOWN_MODEL"
    async with client(several.ws) as c:  # the others do not notice
        await c.audio(speak(TEXT).audio)
        await c.finish()
        assert c.text()


async def until_known(server: Server, model: str) -> None:
    """The front end looks every few seconds what another process has loaded."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            async with connect(f"{server.ws}?model={model}"):
                return
        except InvalidStatus:
            await asyncio.sleep(0.5)
    raise TimeoutError(model)


def test_loading_what_is_not_there_says_what_is(several: Server, models: Path):
    done = command(models, "load", "huge")
    assert done.returncode == 1
    assert "no model 'huge'; it holds many, nano, small" in done.stderr
    done = command(models, "unload", "small")
    assert done.returncode == 1
    assert "'small' is in the repository but not loaded" in done.stderr


def test_a_model_that_triton_cannot_load_is_said_and_the_others_go_on(several: Server, models: Path):
    broken = shutil.copytree(models / "whisper_small", models / "whisper_broken")
    shutil.copytree(models / "whisper_small_encoder", models / "whisper_broken_encoder")
    try:
        for folder in (broken, models / "whisper_broken_encoder"):
            config = folder / "config.pbtxt"
            config.write_text(config.read_text().replace("whisper_small", "whisper_broken"))
        (broken / "1" / "decoder.onnx").write_bytes(b"no graph")
        done = command(models, "load", "broken")
    finally:
        shutil.rmtree(broken)
        shutil.rmtree(models / "whisper_broken_encoder")
    assert done.returncode == 1
    assert "cannot load whisper_broken" in done.stderr
    assert "decoder.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    assert several.get("/readyz")[0] == 200


def test_without_a_server_there_is_nothing_to_load_into(models: Path, tmp_path: Path):
    done = command(tmp_path, "load", "nano")
    assert done.returncode == 1
    assert "no server runs over" in done.stderr
    assert "none runs over this repository" in command(tmp_path, "list").stdout
