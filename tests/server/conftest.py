"""Servers that several files speak with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.http_site import Site, serving


@pytest.fixture(scope="module")
def deepgram(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key, which may call this machine."""
    running = Server(
        repository, tmp_path_factory.mktemp("deepgram") / "log.txt", api_keys="secret", allow_private_urls="true",
        callback_secret="shared", no_data_timeout_s="3", callback_attempts="4",
    )  # fmt: skip
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as one:
        yield one
