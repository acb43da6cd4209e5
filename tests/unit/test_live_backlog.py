"""A live session that is behind: backpressure, lag, rest."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from frontend.inference.base import Pcm
from frontend.inference.fake import FakeEngine
from frontend.settings import Settings
from frontend.speech.events import Partial
from frontend.speech.settings import RATE
from tests.unit.live import PATIENCE_S, eventually, is_stuck, live, loud, quiet, utterances

# --- backpressure -------------------------------------------------------------------------------------------------------


async def test_audio_far_ahead_of_a_stalled_engine_has_to_wait_and_none_is_lost():
    audio = utterances(12)
    engine = FakeEngine()
    async with live(engine, max_backlog_s=3.0) as heard:
        engine.away = True
        feeding = asyncio.create_task(heard.feed(audio))
        assert await is_stuck(feeding)
        assert 3.0 < heard.session.received / RATE < 3.3
        engine.away = False
        async with asyncio.timeout(PATIENCE_S):
            await feeding
        await heard.close()
    assert len(heard.finals) == 12
    for start, end in heard.windows:
        np.testing.assert_array_equal(heard.audio((start, end)), audio[start:end])


async def test_the_backlog_is_counted_while_it_lasts():
    engine = FakeEngine()
    async with live(engine) as heard:
        engine.away = True
        await heard.feed(loud(2.0))
        assert heard.gauge("backlog_seconds") == pytest.approx(2.0)
        engine.away = False
        await heard.close()
        assert heard.gauge("finals_waiting") == 0


@pytest.mark.parametrize("audio", [quiet(5.0), loud(5.0), utterances(2)], ids=["quiet", "loud", "both"])
async def test_one_message_longer_than_the_limit_does_not_wait_for_audio_that_cannot_come(audio: Pcm):
    # 512 KiB, the largest frame, is 33 s of linear16 at 8 kHz and 66 s of mu-law; the limit is 20 s.
    async with live(max_backlog_s=2.0, max_segment=RATE) as heard:
        feeding = asyncio.create_task(heard.feed(audio, chunk=len(audio)))
        await asyncio.wait({feeding}, timeout=1.0)
        stuck = not feeding.done()
        feeding.cancel()
        assert not stuck, "the next message is not read until the engine has caught up, which it has"


async def test_an_utterance_longer_than_the_limit_does_not_wait_for_audio_that_cannot_come():
    # A window of 30 s, as every official Whisper has, and the limit as it is by default.
    longest, limit = 29 * RATE, Settings().max_backlog_s
    audio = np.concatenate([loud(28.0), quiet(1.0)])
    async with live(max_segment=longest, max_backlog_s=limit, interim_results=False) as heard:
        feeding = asyncio.create_task(heard.feed(audio, chunk=RATE // 10))
        await asyncio.wait({feeding}, timeout=1.0)
        stuck = not feeding.done()
        feeding.cancel()
        assert not stuck, f"stopped reading after {heard.session.received / RATE} s although the engine waits for more"
        await heard.close()
    assert len(heard.finals) == 1


# --- lag, and rest --------------------------------------------------------------------------------------------------------


async def test_the_lag_is_counted_from_the_audio_that_a_result_needs():
    engine = FakeEngine(delay=0.05)
    async with live(engine, speculate=False) as heard:
        await heard.feed(np.concatenate([quiet(0.5), loud(1.0), quiet(0.3)]))
        await asyncio.sleep(0.8)  # the endpoint is not there yet, and this is not the server's doing
        await heard.feed(quiet(0.5))
        await eventually(lambda: len(heard.finals) == 1)
        await asyncio.sleep(0.8)
        await heard.feed(loud(0.5, 1))
        await asyncio.sleep(0.8)
        heard.session.finalize()
        await eventually(lambda: len(heard.finals) == 2)
        await heard.close()
    lags = [f.timings.lag_ms for f in heard.finals]
    assert all(48 <= lag < 800 for lag in lags), lags
    assert all(e.timings.lag_ms >= 48 for e in heard.events if isinstance(e, Partial))


async def test_a_slow_engine_shows_in_the_lag():
    async with live(FakeEngine(delay=0.4), interim_results=False) as heard:
        await heard.feed(utterances(1))
        await heard.close()
    assert heard.finals[0].timings.lag_ms >= 398  # a timer may fire a millisecond early


async def test_arrivals_that_nobody_asks_about_are_forgotten():
    async with live() as heard:
        for i in range(5):
            await heard.feed(np.concatenate([loud(1.0, i), quiet(20.0)]), chunk=160)
            assert len(heard.session._arrivals) < 200
        await heard.close()


async def test_a_session_at_rest_holds_nothing_at_the_engine_and_goes_on():
    audio = utterances(2)
    engine = FakeEngine(delay=0.01)
    async with live(engine) as heard:
        await heard.feed(audio[: 20 * RATE // 10])
        await heard.session.rest()
        assert engine.open_streams == 0
        assert heard.gauge("backlog_seconds") == pytest.approx(0)
        await heard.feed(audio[20 * RATE // 10 :])
        await heard.close()
    assert engine.open_streams == 0
    async with live() as steady:
        await steady.feed(audio)
        await steady.close()
    assert heard.finals == steady.finals
