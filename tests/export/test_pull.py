"""`voiceforge models pull`, as a user runs it, from a hub on loopback."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from export import manifest
from frontend.embedded.layout import free_ports
from tests.conftest import ROOT
from tests.export.checkpoints import random_whisper, save, toy
from tests.export.hub import Hub

REPO = "org/whisper-nanotest"
Pull = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save(random_whisper(toy()), tmp_path_factory.mktemp("checkpoint"))
    return {p.name: p.read_bytes() for p in folder.iterdir()} | {"README.md": b"# not needed", "big.msgpack": b"no"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    running = Hub(REPO, files)
    yield running
    running.close()


def puller(folder: Path) -> Pull:
    """pull(endpoint, repo, *options), with a cache and a model repository in `folder`."""

    def run(endpoint: str, repo: str = REPO, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "frontend", "models", "pull", repo, "--endpoint", endpoint]
        command += ["--model-repository", str(folder / "models"), *options]
        own = {"HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*", "COLUMNS": "500"}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("VOICEFORGE_", "HF_"))}
        return subprocess.run(command, cwd=ROOT, env=inherited | own, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def pull(tmp_path: Path) -> Pull:
    return puller(tmp_path)


@dataclass
class Pulled:
    """A hub, a folder, and what became of a first pull."""

    hub: Hub
    folder: Path
    again: Pull
    first: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def pulled(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulled]:
    hub, folder = Hub(REPO, files), tmp_path_factory.mktemp("pulled")
    pull = puller(folder)
    yield Pulled(hub, folder, pull, pull(hub.endpoint))
    hub.close()


def refused(done: subprocess.CompletedProcess[str], *telling: str) -> None:
    """Exit status 1 and a message, not a traceback."""
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said[-300:].split("\n")[-2]
    assert done.returncode == 1, said
    for part in telling:
        assert part in said


def test_a_pulled_model_lands_in_the_repository_whole(pulled: Pulled):
    assert pulled.first.returncode == 0, pulled.first.stderr
    assert "match the hub's checksums" in pulled.first.stderr
    assert "voiceforge serve --model nanotest" in pulled.first.stderr
    repository = pulled.folder / "models"
    assert {p.name for p in repository.iterdir()} == {"manifest.json", "whisper_nanotest", "whisper_nanotest_encoder"}
    entry = manifest.read(repository)["models"]["nanotest"]
    assert entry["precision"] == "int8"
    assert entry["source_sha256"]["model.safetensors"] == pulled.hub.etag("model.safetensors")
    assert manifest.changed(repository, "nanotest") == []
    fetched = {p.rsplit("/", 1)[-1] for method, p, _ in pulled.hub.requests if method == "GET" and "/resolve/" in p}
    assert "model.safetensors" in fetched
    assert fetched.isdisjoint({"README.md", "big.msgpack"})  # only what an export reads


def test_the_manifest_says_which_repo_a_pulled_model_came_from(pulled: Pulled):
    assert REPO in manifest.read(pulled.folder / "models")["models"]["nanotest"]["source"]


def test_a_second_pull_takes_the_weights_from_the_cache(pulled: Pulled):
    pulled.hub.requests.clear()
    done = pulled.again(pulled.hub.endpoint, REPO, "--precision", "fp32", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert manifest.read(pulled.folder / "models")["models"]["mine"]["precision"] == "fp32"
    assert not [p for method, p, _ in pulled.hub.requests if method == "GET" and p.endswith(".safetensors")]


def test_a_hub_that_died_since_the_first_pull_still_gets_a_clean_answer(pulled: Pulled):
    """From the cache or refused, but never a traceback. The last test of this hub: it closes it."""
    pulled.hub.close()
    done = pulled.again(pulled.hub.endpoint)
    if done.returncode != 0:
        refused(done, REPO)


def test_a_download_that_breaks_off_is_resumed_where_it_stopped(hub: Hub, pull: Pull, repository: Path):
    weights = safetensors.numpy.load(hub.files["model.safetensors"])
    weights["unused"] = np.zeros(25_000_000, np.uint8)  # the hub's client writes pieces of 10 MB
    hub.publish("model.safetensors", safetensors.numpy.save(weights, {"format": "pt"}))
    hub.cut["model.safetensors"] = 15_000_000
    done = pull(hub.endpoint)
    assert done.returncode == 0, done.stderr
    assert manifest.changed(repository, "nanotest") == []
    ranges = [r for _, path, r in hub.requests if path.endswith(".safetensors") and r]
    assert re.fullmatch(r"bytes=[1-9]\d{6,}-", ranges[0])


def corrupt(hub: Hub, name: str) -> None:
    """Flips a bit of what is sent: the size stays, only a checksum can tell."""
    content = bytearray(hub.files[name])
    content[-100] ^= 1
    hub.served[name] = bytes(content)


def test_corrupted_weights_are_refused_and_what_the_message_advises_helps(hub: Hub, pull: Pull, repository: Path):
    corrupt(hub, "model.safetensors")
    done = pull(hub.endpoint)
    refused(done, REPO, "model.safetensors does not match the hub's checksum")
    assert not list(repository.glob("whisper_*"))
    hub.served = dict(hub.files)
    advised = re.search(r"delete (\S+) and pull again", done.stderr)
    if advised:  # if it says so; it may as well have done it
        Path(advised[1]).unlink()
    again = pull(hub.endpoint)
    assert again.returncode == 0, again.stderr


def test_a_corrupted_file_outside_lfs_is_refused_too(hub: Hub, pull: Pull, repository: Path):
    corrupt(hub, "tokenizer.json")
    refused(pull(hub.endpoint), REPO, "tokenizer.json does not match the hub's checksum")
    assert not list(repository.glob("whisper_*"))


def test_an_unknown_repo_is_named_in_the_error(hub: Hub, pull: Pull, repository: Path):
    refused(pull(hub.endpoint, "org/whisper-absent"), "org/whisper-absent", "404")
    assert not repository.exists()


def test_a_repo_that_is_no_whisper_is_refused(hub: Hub, pull: Pull, repository: Path):
    hub.publish("config.json", hub.files["config.json"].replace(b'"whisper"', b'"wav2vec2"'))
    refused(pull(hub.endpoint), "wav2vec2", "not 'whisper'")
    assert not list(repository.glob("whisper_*"))


def test_torch_weights_are_fetched_where_there_are_no_safetensors(hub: Hub, pull: Pull, repository: Path):
    weights = safetensors.torch.load(hub.files["model.safetensors"])
    content = io.BytesIO()
    torch.save(weights, content)
    hub.publish("pytorch_model.bin", content.getvalue())
    hub.withdraw("model.safetensors")
    done = pull(hub.endpoint)
    assert done.returncode == 0, done.stderr
    assert "pytorch_model.bin" in manifest.read(repository)["models"]["nanotest"]["source_sha256"]


def test_a_pickle_that_is_no_plain_set_of_weights_is_refused(hub: Hub, pull: Pull):
    hub.publish("pytorch_model.bin", hub.files["model.safetensors"])
    hub.withdraw("model.safetensors")
    refused(pull(hub.endpoint), "pytorch_model.bin cannot be read safely", "save_pretrained")


def test_weights_that_no_export_needs_are_left_where_they_are(hub: Hub, pull: Pull):
    """Large checkpoints carry a second set, and older ones their torch weights too."""
    hub.publish("model.fp32-00001-of-00001.safetensors", b"large")
    hub.publish("pytorch_model.bin", b"large")
    assert pull(hub.endpoint).returncode == 0
    assert not [p for _, p, _ in hub.requests if "fp32" in p or p.endswith(".bin")]


def test_several_repos_are_pulled_by_one_command_and_the_first_failure_ends_it(hub: Hub, pull: Pull, repository: Path):
    done = pull(hub.endpoint, REPO, REPO)
    assert done.returncode == 0, done.stderr
    refused(pull(hub.endpoint, "org/absent", REPO), "org/absent")
    done = pull(hub.endpoint, REPO, REPO, "--name", "one")
    assert done.returncode == 2
    assert "--name names one model" in done.stderr


def test_a_dead_hub_is_an_error_within_seconds(pull: Pull):
    began = time.monotonic()
    refused(pull(f"http://127.0.0.1:{free_ports(1)[0]}"), REPO)
    assert time.monotonic() - began < 60
