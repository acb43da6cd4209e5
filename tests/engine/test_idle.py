"""Streams that are left behind: Triton and the models forget them, and room is made for others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from export.repository import NANO, export_silero, export_whisper
from export.triton_config import Tuning
from frontend.app import canary
from frontend.embedded import EmbeddedTriton
from frontend.embedded.supervisor import Timing
from frontend.inference.engine import TritonEngine
from frontend.inference.triton import Patience
from frontend.speech.events import Decode, RunAsr
from tests.engine.client import asr, final, metric, tokens, vad

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_S = 2
SLOTS = 8
N_ABANDONED = 12


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def forgetful(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    """Idle after 2 s; one decode row, so that jobs wait. No canary disturbs the counts."""
    folder: Path = tmp_path_factory.mktemp("forgetful")
    export_silero(folder, idle_s=IDLE_S)
    export_whisper(str(NANO), folder, name="nano", idle_s=IDLE_S, tuning=Tuning(max_rows=1))
    server = EmbeddedTriton(folder, canary, timing=Timing(interval=3600))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient(forgetful: EmbeddedTriton) -> AsyncIterator[TritonEngine]:
    client = TritonEngine(forgetful.address, patience=Patience(call=15))
    await client.models()
    yield client
    await client.close()


async def counts(server: EmbeddedTriton, name: str, expected: float) -> None:
    """Waits for a metric: a model answers its requests before it reports."""
    deadline = asyncio.get_running_loop().time() + 1
    while (found := metric(server.metrics_url, name)) != expected and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    assert found == expected, name


async def test_abandoned_streams_are_forgotten_once_another_one_speaks(
    forgetful: EmbeddedTriton, patient: TritonEngine, spoken: list[np.ndarray]
):
    audio = spoken[0][:8192]
    for _ in range(N_ABANDONED):
        await asr(patient, patient.servers[0].next_id(), Decode.PARTIAL, audio, start=True)
        await vad(patient, patient.servers[0].next_id(), audio, start=True)
    await counts(forgetful, "voiceforge_sequences", N_ABANDONED)
    await counts(forgetful, "voiceforge_onnx_sequences", N_ABANDONED)
    await asyncio.sleep(IDLE_S + 1.2)
    touched = patient.servers[0].next_id()
    await asr(patient, touched, Decode.PARTIAL, audio, start=True)
    await vad(patient, touched, audio, start=True)
    await counts(forgetful, "voiceforge_sequences", 1)
    await counts(forgetful, "voiceforge_onnx_sequences", 1)
    await asr(patient, touched, Decode.RESET, end=True)
    await vad(patient, touched, audio, end=True)
    await counts(forgetful, "voiceforge_sequences", 0)
    await counts(forgetful, "voiceforge_onnx_sequences", 0)


async def test_a_stream_that_goes_on_in_time_is_kept(patient: TritonEngine, spoken: list[np.ndarray]):
    sequence = patient.servers[0].next_id()
    pieces = np.array_split(spoken[0], 4)
    for i, piece in enumerate(pieces):
        await asr(patient, sequence, Decode.PARTIAL, piece, start=i == 0)
        await asyncio.sleep(IDLE_S * 0.6)
    answer = await asr(patient, sequence, Decode.FINAL, end=True)
    assert tokens(answer) == list((await final(patient, spoken[0])).tokens)


async def test_once_the_last_stream_is_closed_every_token_was_counted(
    forgetful: EmbeddedTriton, patient: TritonEngine, spoken: list[np.ndarray]
):
    before = metric(forgetful.metrics_url, "voiceforge_decode_row_steps")
    said = await final(patient, spoken[0])
    await asyncio.sleep(0.5)
    assert metric(forgetful.metrics_url, "voiceforge_decode_row_steps") >= before + len(said.tokens)


async def test_streams_that_are_closed_leave_nothing(
    forgetful: EmbeddedTriton, patient: TritonEngine, spoken: list[np.ndarray]
):
    for _ in range(20):
        heard, written = patient.vad_stream(), patient.asr_stream("nano", "en")
        await heard.probabilities(spoken[0][:1024])
        await written.decode(RunAsr(Decode.PARTIAL, 0, 0, 4096), spoken[0][:4096])
        await heard.close()
        await written.close()
    await counts(forgetful, "voiceforge_sequences", 0)
    await counts(forgetful, "voiceforge_onnx_sequences", 0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cramped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    """A server with room for few sequences, so that a leaked one is missed."""
    folder: Path = tmp_path_factory.mktemp("cramped")
    export_silero(folder, idle_s=IDLE_S)
    export_whisper(str(NANO), folder, name="nano", idle_s=IDLE_S, tuning=Tuning(max_rows=1))
    config = folder / "whisper_nano" / "config.pbtxt"
    text, n = re.subn(r"max_candidate_sequences: \d+", f"max_candidate_sequences: {SLOTS}", config.read_text())
    assert n == 1
    config.write_text(text)
    server = EmbeddedTriton(folder, canary, timing=Timing(interval=3600))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(cramped: EmbeddedTriton) -> AsyncIterator[TritonEngine]:
    client = TritonEngine(cramped.address, patience=Patience(call=15))
    await client.models()
    yield client
    await client.close()


async def test_abandoned_streams_give_their_slots_back(crowd: TritonEngine, spoken: list[np.ndarray]):
    for _ in range(SLOTS):
        await asr(crowd, crowd.servers[0].next_id(), Decode.PARTIAL, spoken[0][:8192], start=True)
    found = await asyncio.gather(*(final(crowd, spoken[1]) for _ in range(SLOTS)))
    assert len({h.tokens for h in found}) == 1


async def test_requests_whose_client_vanished_in_the_middle_of_a_decode_are_let_go(
    cramped: EmbeddedTriton, crowd: TritonEngine, spoken: list[np.ndarray]
):
    """Cancelled while encoded, while waiting for the decode row, or while decoded.

    A model that never answers a request, cancelled or not, leaks it; Triton then cannot unload the model either.
    The last test of this server: it stops it.
    """
    expected = (await final(crowd, spoken[1])).tokens
    for after_s in (0.05, 0.15, 0.3):
        requests = [
            asyncio.create_task(asr(crowd, crowd.servers[0].next_id(), Decode.PARTIAL, spoken[0], start=True))
            for _ in range(SLOTS)
        ]
        await asyncio.sleep(after_s)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
    await asyncio.sleep(IDLE_S + 1.5)
    found = await asyncio.gather(*(final(crowd, spoken[1]) for _ in range(SLOTS)))
    assert {h.tokens for h in found} == {expected}
    await cramped.stop()
    said = "\n".join(cramped.output)
    assert "successfully unloaded 'whisper_nano'" in said
    assert "Exit timeout expired" not in said
