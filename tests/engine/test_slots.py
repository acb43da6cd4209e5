"""A model in slots behind Triton, as a GPU has it, on this CPU: several instances, the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from export.repository import NANO, export_silero, export_whisper
from export.triton_config import Tuning
from frontend.app import canary
from frontend.embedded import EmbeddedTriton
from frontend.inference.engine import TritonEngine
from frontend.speech.events import Decode, RunAsr
from tests.engine.client import final, metric
from tests.engine.test_sequences import same

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("models-slots")
    export_silero(folder)
    export_whisper(str(NANO), folder, name="nano", tuning=Tuning(slots=True, max_rows=5, instances=2))
    running = EmbeddedTriton(folder, canary)
    await running.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slots(server: EmbeddedTriton) -> AsyncIterator[TritonEngine]:
    client = TritonEngine(server.address)
    await client.models()
    yield client
    await client.close()


async def test_many_streams_hear_what_the_usual_engine_hears(slots: TritonEngine, spoken, repository: Path):
    usual = EmbeddedTriton(repository, canary)
    await usual.start()
    client = TritonEngine(usual.address)
    try:
        await client.models()
        expected = [await final(client, a) for a in spoken]
    finally:
        await client.close()
        await usual.stop()
    found = await asyncio.gather(*(final(slots, a) for a in spoken * 4))
    for ours, theirs in zip(found, expected * 4, strict=True):
        same(ours, theirs)
        assert ours.timings.encode_ms > 0
        assert ours.words


async def test_a_stream_of_partials_ends_as_its_final_alone(slots: TritonEngine, spoken):
    stream = slots.asr_stream("nano", "en")
    for part in (0.3, 0.6, 0.9):
        n = round(len(spoken[0]) * part)
        await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, n), spoken[0][:n])
    found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(spoken[0])), spoken[0])
    await stream.close()
    same(found, await final(slots, spoken[0]))


async def test_both_instances_work_and_report(server: EmbeddedTriton, slots: TritonEngine, spoken):
    before = metric(server.metrics_url, "voiceforge_decode_row_steps")
    found = await asyncio.gather(*(final(slots, a) for a in spoken * 4))
    await asyncio.gather(*(final(slots, a) for a in spoken[:1] * 4))  # it reports when it is asked something
    assert metric(server.metrics_url, "voiceforge_decode_row_steps") >= before + sum(len(h.tokens) for h in found)


async def test_one_dead_instance_of_two_is_noticed(server: EmbeddedTriton, spoken):
    def stubs() -> list[psutil.Process]:
        children = psutil.Process(server.pid).children(recursive=True)
        return [p for p in children if p.name().startswith("triton_python")]

    assert len(stubs()) == 4  # VAD, encoder, two of the engine
    restarts = server.restarts
    stubs()[-1].kill()
    async with asyncio.timeout(60):
        while server.restarts == restarts or not server.healthy:
            await asyncio.sleep(0.1)
    client = TritonEngine(server.address)
    assert (await final(client, spoken[0])).words
    await client.close()
