"""The asyncio shell over a scripted engine: nothing is lost, nothing leaks, nobody waits for ever."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from frontend.inference.fake import FakeEngine
from frontend.speech.events import Final, Finished, Partial, SpeechEnded, SpeechStarted
from frontend.speech.settings import RATE, SessionSettings
from tests.unit.live import eventually, live, loud, quiet, utterances


async def test_speech_comes_out_as_events_in_order():
    async with live() as heard:
        await heard.feed(utterances(1))
        await heard.close()
    kinds = [type(e) for e in heard.events if not isinstance(e, Partial)]
    assert kinds == [SpeechStarted, SpeechEnded, Final, Finished]
    assert any(isinstance(e, Partial) for e in heard.events)


async def test_each_final_is_decoded_from_exactly_its_audio():
    audio = utterances(3)
    async with live() as heard:
        await heard.feed(audio)
        await heard.close()
    assert len(heard.finals) == 3
    for start, end in heard.windows:
        np.testing.assert_array_equal(heard.audio((start, end)), audio[start:end])


async def test_windows_of_long_speech_join_without_a_gap():
    audio = np.concatenate([loud(40.0), quiet(1.0)])
    async with live(max_segment=5 * RATE) as heard:
        await heard.feed(audio)
        await heard.close()
    assert len(heard.windows) >= 8
    assert heard.windows[0][0] == 0
    assert heard.windows[-1][1] >= 40 * RATE
    assert all(a[1] == b[0] for a, b in itertools.pairwise(heard.windows))
    joined = np.concatenate([heard.audio(w) for w in heard.windows])
    np.testing.assert_array_equal(joined, audio[: len(joined)])


@pytest.mark.parametrize("said_s", [10.6, 10.9, 11.2])
async def test_speech_that_ends_where_it_would_be_cut_is_decoded_once(said_s: float):
    audio = np.concatenate([loud(said_s), quiet(1.5), loud(0.5, 1), quiet(1.0)])
    async with live() as heard:
        await heard.feed(audio)
        await heard.close()
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(heard.windows))
    decoded = np.concatenate([heard.audio(w) for w in heard.windows])
    assert np.count_nonzero(decoded) == np.count_nonzero(audio)


@pytest.mark.parametrize("chunk", [123, 1_600, 40_000, 10**6])
async def test_how_audio_is_cut_into_messages_does_not_change_the_finals(chunk: int):
    async with live() as heard:
        await heard.feed(utterances(2), chunk)
        await heard.close()
    async with live() as steady:
        await steady.feed(utterances(2), 512)
        await steady.close()
    assert heard.finals == steady.finals


async def test_audio_that_nobody_needs_any_more_is_forgotten():
    async with live() as heard:
        for i in range(5):
            await heard.feed(np.concatenate([loud(1.0, i), quiet(20.0)]), chunk=8_000)
            ring = heard.session._ring
            assert ring.end - ring.begin <= RATE
        await heard.close()


async def test_finalize_is_answered_while_audio_goes_on():
    async with live() as heard:
        await heard.feed(loud(1.0))
        heard.session.finalize()
        await eventually(lambda: len(heard.finals) == 1)
        await heard.feed(loud(1.0, 1))
        await heard.close()
    assert [f.requested for f in heard.finals] == [True, True]
    assert heard.windows == [(0, RATE), (RATE, 2 * RATE)]


# --- leaving ------------------------------------------------------------------------------------------------------------


async def test_a_session_that_ended_leaves_neither_stream_nor_gauge():
    engine = FakeEngine()
    async with live(engine) as heard:
        await heard.feed(utterances(2))
        await heard.close()
    assert engine.open_streams == 0
    assert heard.gauge("backlog_seconds") == pytest.approx(0)
    assert heard.gauge("finals_waiting") == 0


async def test_leaving_early_stops_engine_calls_and_closes_both_streams():
    engine = FakeEngine(delay=60)
    async with live(engine) as heard:
        await heard.feed(utterances(2))
        await asyncio.sleep(0.02)
        assert engine.open_streams == 2
    assert engine.open_streams == 0
    assert heard.gauge("backlog_seconds") == pytest.approx(0)
    assert heard.gauge("finals_waiting") == 0
    assert len(asyncio.all_tasks()) == 1


async def test_leaving_with_an_error_gives_that_error():
    engine = FakeEngine(delay=60)

    async def serve() -> None:
        async with live(engine) as heard:
            await heard.feed(utterances(1))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await serve()
    assert engine.open_streams == 0


async def test_a_cancelled_session_closes_both_streams():
    engine = FakeEngine(delay=60)

    async def serve() -> None:
        async with live(engine) as heard:
            await heard.feed(utterances(1))
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.open_streams == 0


async def test_other_settings_may_be_taken_before_the_first_audio():
    engine = FakeEngine()
    async with live(engine) as heard:
        heard.session.restart(SessionSettings(vad_enabled=False), engine.asr_stream("nano", "de"))
        await heard.session.feed(quiet(1.0))
        await heard.close()
    assert [f.end for f in heard.finals] == [RATE]
