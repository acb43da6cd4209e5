"""The asyncio shell over a scripted engine: nothing is lost, nothing leaks, nobody waits for ever."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from frontend.control.load import EngineLoad
from frontend.errors import EngineRejected, EngineUnavailable
from frontend.inference.base import Pcm
from frontend.inference.fake import FakeEngine
from frontend.observability.metrics import Metrics
from frontend.server.live import LiveSession
from frontend.settings import Settings
from frontend.speech.events import Decode, Event, Final, Finished, Partial, RunAsr, SpeechEnded, SpeechStarted
from frontend.speech.settings import RATE, SessionSettings

PATIENCE_S = 5.0
"""Nothing here takes as long; a session that hangs fails instead of holding up the suite."""


def quiet(seconds: float) -> Pcm:
    return np.zeros(round(seconds * RATE), np.int16)


def loud(seconds: float, seed: int = 0) -> Pcm:
    """What the fake engine takes for speech; every sample differs from its neighbours, so that lost audio shows."""
    return np.random.default_rng(seed).integers(1_000, 8_000, round(seconds * RATE)).astype(np.int16)


def utterances(n: int = 2) -> Pcm:
    return np.concatenate([part for i in range(n) for part in (quiet(0.7), loud(1.0, i), quiet(0.8))])


class Heard:
    """A session, what it told, and the audio of each final decode."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.metrics = engine, Metrics()
        self.events: list[Event] = []
        self._audio: dict[int, Pcm] = {}
        self._script, engine.script = engine.script, self._decode
        self.session: LiveSession

    def _decode(self, request: RunAsr, audio: Pcm) -> str:
        if request.command is Decode.FINAL:
            self._audio[request.start] = audio.copy()
        return self._script(request, audio)

    def audio(self, window: tuple[int, int]) -> Pcm:
        """What was decoded for a final; a cut's window went beyond it."""
        return self._audio[window[0]][: window[1] - window[0]]

    @property
    def finals(self) -> list[Final]:
        return [e for e in self.events if isinstance(e, Final)]

    @property
    def windows(self) -> list[tuple[int, int]]:
        return [(f.start, f.end) for f in self.finals]

    async def feed(self, audio: Pcm, chunk: int = 1_600) -> None:
        for i in range(0, len(audio), chunk):
            await self.session.feed(audio[i : i + chunk])
            await asyncio.sleep(0)  # as a socket would

    async def close(self) -> None:
        self.session.close()
        async with asyncio.timeout(PATIENCE_S):
            await self.session.finished.wait()

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"voiceforge_{name}")


@asynccontextmanager
async def live(
    engine: FakeEngine | None = None, *, max_backlog_s: float = 1_000.0, load: EngineLoad | None = None, **settings: Any
):
    heard = Heard(engine or FakeEngine())
    heard.session = LiveSession(
        SessionSettings(**settings), heard.engine.vad_stream(),
        heard.engine.asr_stream("nano", "en"), heard.metrics, load or EngineLoad(time.monotonic, 1.0),
        heard.events.append, max_backlog_s=max_backlog_s,
    )  # fmt: skip
    async with heard.session:
        yield heard


async def is_stuck(waiting: asyncio.Task[None]) -> bool:
    """Whether a task is still waiting after everything that could run has run."""
    await asyncio.wait({waiting}, timeout=0.05)
    return not waiting.done()


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.002)


# --- audio in, finals out ---------------------------------------------------------------------------------------------


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


# --- an engine that is slow, away or broken -----------------------------------------------------------------------------


async def test_an_engine_that_is_away_for_a_while_delays_finals_and_loses_nothing():
    audio = utterances(3)
    engine = FakeEngine()
    async with live(engine) as heard:
        await heard.feed(audio[: 2 * RATE])
        engine.away = True
        await heard.feed(audio[2 * RATE :])
        heard.session.close()
        await asyncio.sleep(0.03)
        assert len(heard.finals) < 3
        engine.away = False
        await heard.close()
    async with live() as undisturbed:
        await undisturbed.feed(audio)
        await undisturbed.close()
    assert heard.finals == undisturbed.finals


async def test_a_slow_engine_gives_fewer_partials_and_the_same_finals():
    audio = utterances(2)
    async with live(FakeEngine(delay=0.02)) as slow:
        await slow.feed(audio)
        await slow.close()
    async with live() as quick:
        await quick.feed(audio)
        await quick.close()
    assert slow.finals == quick.finals


@pytest.mark.parametrize("error", [EngineRejected("no"), EngineUnavailable("away")])
async def test_a_partial_that_fails_is_skipped(error: Exception):
    def script(request: RunAsr, audio: Pcm) -> str:
        if request.command is Decode.PARTIAL:
            raise error
        return "text"

    async with live(FakeEngine(script), speculate=False) as heard:
        await heard.feed(utterances(2))
        await heard.close()
    assert [f.text for f in heard.finals] == ["text", "text"]
    assert not any(isinstance(e, Partial) for e in heard.events)


@pytest.mark.parametrize("error", [EngineRejected("no"), EngineUnavailable("away for good")])
async def test_a_final_that_fails_ends_the_session_with_that_error(error: Exception):
    def script(request: RunAsr, audio: Pcm) -> str:
        if request.command is Decode.FINAL:
            raise error
        return "text"

    engine, sessions = FakeEngine(script), []

    async def serve() -> None:
        async with live(engine) as heard:
            sessions.append(heard)
            await heard.feed(utterances(1))
            await heard.close()

    with pytest.raises(type(error), match=str(error)):
        await serve()
    assert engine.open_streams == 0
    assert sessions[0].gauge("backlog_seconds") == 0
    assert sessions[0].gauge("finals_waiting") == 0


# --- places for partials ------------------------------------------------------------------------------------------------


def one_place() -> EngineLoad:
    load = EngineLoad(time.monotonic, 1.0)
    load.partials.limit = 1.0
    return load


async def test_a_partial_waits_for_its_place_and_is_asked_for_with_what_is_heard_by_then():
    load, partials = one_place(), list[RunAsr]()

    def script(request: RunAsr, audio: Pcm) -> str:
        if request.command is Decode.PARTIAL:
            partials.append(request)
        return "text"

    assert load.partials.take(lambda: None, first=True), "someone else has the only place"
    async with live(FakeEngine(script), load=load, speculate=False) as heard:
        await heard.feed(loud(2.0))
        await eventually(lambda: heard.session.core.backlog < RATE)
        assert not partials
        load.partials.leave()
        await eventually(lambda: bool(partials))
        assert partials[0].end > 1.5 * RATE, "not from when it was first due"
        await heard.feed(quiet(1.0))
        await heard.close()
        assert len(heard.finals) == 1
    assert load.partials.taken == 0


async def test_finals_wait_for_no_place_and_a_place_that_nobody_needs_any_more_is_passed_on():
    load, called = one_place(), []
    load.partials.take(lambda: None, first=True)
    async with live(load=load, speculate=False) as heard:
        await heard.feed(utterances(1))
        await eventually(lambda: len(heard.finals) == 1)
        assert not any(isinstance(e, Partial) for e in heard.events)
        load.partials.take(lambda: called.append("next"), first=False)
        load.partials.leave()  # goes to the session first, which waited longer
        await eventually(lambda: called == ["next"])
        load.partials.leave()
        await heard.close()
    assert load.partials.taken == 0


@pytest.mark.parametrize("seconds", [0.0, 0.02])
async def test_a_session_that_leaves_gives_its_place_back(seconds: float):
    load = one_place()
    with pytest.raises(RuntimeError, match="gone"):
        async with live(FakeEngine(delay=60), load=load) as heard:
            heard.session.append(loud(2.0))
            await eventually(lambda: load.partials.taken == 1)
            await asyncio.sleep(seconds)
            raise RuntimeError("gone")
    assert load.partials.taken == 0


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
