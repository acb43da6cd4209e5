"""A real embedded Triton for the tests of this folder, and what they ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from export.repository import NANO, export_silero, export_whisper
from frontend.app import canary
from frontend.embedded import EmbeddedTriton
from frontend.embedded.supervisor import Timing
from frontend.inference.engine import TritonEngine
from frontend.inference.triton import Patience

SENTENCES = [
    "The train to London leaves at half past three.",
    "Please open the window in the kitchen.",
    "My phone number is four seven two nine three.",
    "The meeting is on Tuesday, the third of May.",
    "It is raining in Dublin today.",
]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In fp32: int8 scales a whole batch at once, so what a stream hears there depends a little on the others."""
    folder = tmp_path_factory.mktemp("models-fp32")
    export_silero(folder)
    export_whisper(str(NANO), folder, name="nano")
    return folder


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def triton(repository: Path) -> AsyncIterator[EmbeddedTriton]:
    """One server for all tests that leave it as it was."""
    server = EmbeddedTriton(repository, canary)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def engine(triton: EmbeddedTriton) -> AsyncIterator[TritonEngine]:
    client = TritonEngine(triton.address)
    await client.models()
    yield client
    await client.close()


@pytest.fixture(scope="package")
def spoken(speak) -> list[np.ndarray]:
    """int16 (n,) at 16 kHz, n a multiple of Silero's frame."""
    return [a[: len(a) // 512 * 512] for a in (speak(s).audio for s in SENTENCES)]


@pytest_asyncio.fixture
async def start(repository: Path) -> AsyncIterator[Callable]:
    """await start(...): a server of the test's own, stopped afterwards whatever happened."""
    running: list[EmbeddedTriton] = []

    async def launch(folder: Path = repository, check=canary, **options) -> EmbeddedTriton:
        server = EmbeddedTriton(folder, check, **({"timing": Timing(interval=0.5)} | options))
        running.append(server)
        await server.start()
        return server

    yield launch
    for server in running:
        await server.stop()


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Callable[[EmbeddedTriton], TritonEngine]]:
    """connect(server): a client of a test's own."""
    clients: list[TritonEngine] = []

    def client(server: EmbeddedTriton, patience: Patience = Patience(call=10)) -> TritonEngine:
        clients.append(TritonEngine(server.address, patience=patience))
        return clients[-1]

    yield client
    for one in clients:
        await one.close()
