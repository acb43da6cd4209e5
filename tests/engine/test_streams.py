"""Many streams at once: each hears what it hears alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from frontend.inference.engine import TritonEngine
from frontend.speech.events import Decode, Hypothesis, RunAsr
from tests.engine.client import FRAME, cut, final, same, vad

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_two_interleaved_vad_streams_do_not_mix(engine: TritonEngine, spoken):
    a, b = (engine.vad_stream() for _ in range(2))
    n = min(len(spoken[0]), len(spoken[1]))
    found: tuple[list[float], list[float]] = ([], [])
    for i in range(0, n, 2 * FRAME):
        found[0].extend(await a.probabilities(spoken[0][i : i + 2 * FRAME]))
        found[1].extend(await b.probabilities(spoken[1][i : i + 2 * FRAME]))
    await asyncio.gather(a.close(), b.close())
    for stream in range(2):
        alone = await vad(engine, engine.servers[0].next_id(), spoken[stream], start=True, end=True)
        size = min(len(alone), len(found[stream]))
        np.testing.assert_allclose(found[stream][:size], alone[:size], atol=1e-5)


async def test_more_windows_at_once_than_the_encoder_takes_in_a_batch_are_all_decoded(engine: TritonEngine, spoken):
    audio = spoken[0][: 30 * FRAME]
    streams = [engine.asr_stream("nano", "en") for _ in range(40)]
    run = RunAsr(Decode.PARTIAL, 0, 0, len(audio))
    found = await asyncio.gather(*(s.decode(run, audio) for s in streams))
    await asyncio.gather(*(s.close() for s in streams))
    assert len({h.tokens for h in found}) == 1


async def test_finals_of_different_window_lengths_at_once_have_their_words(engine: TritonEngine, spoken):
    """The decode batch is as wide as its longest window; word times need each row's own."""
    audio = [np.resize(np.concatenate(spoken[i:]), n * 16_000) for i, n in enumerate((1, 2, 4, 6, 11))]
    alone = [await final(engine, a) for a in audio]
    together = await asyncio.gather(*(final(engine, a) for a in audio))
    for found, expected in zip(together, alone, strict=True):
        same(found, expected)
        assert found.words


N_STREAMS = 50


def of_its_own(spoken: list[np.ndarray], i: int) -> np.ndarray:
    """Some second and a half that no other stream has."""
    whole = np.concatenate(spoken)
    n = (40 + i % 7) * FRAME
    begin = i * (len(whole) - n) // N_STREAMS // FRAME * FRAME
    return whole[begin : begin + n]


async def listen(engine: TritonEngine, audio: np.ndarray, seed: int) -> tuple[list[float], list[Hypothesis]]:
    """A session: VAD and partials side by side in random pieces, then a final."""
    heard, asr_stream = engine.vad_stream(), engine.asr_stream("nano", "en")
    probabilities: list[float] = []
    hypotheses: list[Hypothesis] = []

    async def watch() -> None:
        for piece in cut(audio, seed, 8):
            probabilities.extend(await heard.probabilities(piece))
        await heard.close()

    async def write() -> None:
        for n in (len(audio) // 2, len(audio)):
            hypotheses.append(await asr_stream.decode(RunAsr(Decode.PARTIAL, 0, 0, n), audio[:n]))
        hypotheses.append(await asr_stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio))
        await asr_stream.close()

    await asyncio.gather(watch(), write())
    return probabilities, hypotheses


async def test_fifty_streams_at_once_hear_exactly_what_each_hears_alone(engine: TritonEngine, spoken):
    audio = [of_its_own(spoken, i) for i in range(N_STREAMS)]
    assert len({a.tobytes() for a in audio}) == N_STREAMS
    alone = [await listen(engine, a, seed) for seed, a in enumerate(audio)]
    together = await asyncio.gather(*(listen(engine, a, seed) for seed, a in enumerate(audio)))
    assert len({h[-1].text for _, h in alone}) > N_STREAMS // 3  # streams that were mixed up would show
    for (found_vad, found), (expected_vad, expected) in zip(together, alone, strict=True):
        np.testing.assert_allclose(found_vad, expected_vad, atol=1e-5)
        for one, other in zip(found, expected, strict=True):
            same(one, other)


async def test_hundreds_of_requests_leave_the_server_as_it_was(triton, engine: TritonEngine, spoken):
    """Triton's Python backend does not forgive a model that talks to it from two threads: it crashes now and then."""
    server = triton.pid
    audio = [a[: 60 * FRAME] for a in spoken[:4]]
    expected = [(await final(engine, a)).tokens for a in audio]

    async def talk(i: int) -> None:
        for _ in range(30):
            stream = engine.asr_stream("nano", "en")
            await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, 30 * FRAME), audio[i][: 30 * FRAME])
            found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio[i])), audio[i])
            await stream.close()
            assert found.tokens == expected[i]

    await asyncio.gather(*(talk(i) for i in range(len(audio))))
    assert triton.pid == server
    assert triton.restarts == 0
