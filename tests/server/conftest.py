"""Servers with settings of their own that several tests share, and a watch over the log of the common one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from export.repository import CHECKPOINTS, export_silero, export_whisper
from tests.conftest import Server

IDLE_S = 3


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Soon tired of clients that do not read; its engine forgets streams that are idle for 3 s."""
    folder = tmp_path_factory.mktemp("impatient")
    export_silero(folder / "models", idle_s=IDLE_S)
    export_whisper(str(CHECKPOINTS), folder / "models", name="nano", idle_s=IDLE_S)
    running = Server(folder / "models", folder / "log.txt", slow_client_s="2", max_backlog_s="2")
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def limited(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Listens on every address, takes two clients, each for 4 s at most, and hangs up after 1.5 s without data."""
    running = Server(
        repository, tmp_path_factory.mktemp("limited") / "log.txt",
        host="0.0.0.0", max_connections="2", max_session_s="4", no_data_timeout_s="1.5",
    )  # fmt: skip
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def mortal(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its engine may be killed: the next test finds another one."""
    running = Server(repository, tmp_path_factory.mktemp("mortal") / "log.txt")
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(autouse=True)
def quiet_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a client does, the common server logs no traceback."""
    if "server" not in request.fixturenames:
        yield
        return
    log = request.getfixturevalue("server").log
    before = log.stat().st_size
    yield
    said = log.read_bytes()[before:].decode("utf-8", "replace")
    assert "Traceback" not in said, said
