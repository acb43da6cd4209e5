"""Admission by measured lag."""

from __future__ import annotations

import asyncio

import pytest

from frontend.control.load import WINDOW_S, EngineLoad
from frontend.errors import EngineBusy
from frontend.server.intake import YIELD_S, live_first


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(clock: Clock) -> EngineLoad:
    return EngineLoad(clock, limit_s=0.3)


def answer(load: EngineLoad, clock: Clock, took: float, kind: str = "vad") -> None:
    ticket = load.asked(kind)
    clock.now += took
    load.answered(ticket)


def test_a_quiet_engine_takes_sessions(load: EngineLoad):
    assert load.lag() == 0.0
    load.admit()


def test_a_slow_model_is_not_a_busy_one(load: EngineLoad, clock: Clock):
    for _ in range(20):
        answer(load, clock, 0.005)
        answer(load, clock, 1.5, "whisper_large")
    assert load.lag() < 0.01
    load.admit()


def test_a_model_that_takes_longer_than_it_did_is_behind_and_says_by_how_much(load: EngineLoad, clock: Clock):
    for _ in range(3):
        answer(load, clock, 0.05, "whisper_nano")
    for _ in range(8):
        answer(load, clock, 0.55, "whisper_nano")
    assert load.lag() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(EngineBusy, match="500 ms behind; try again"):
        load.admit()


def test_one_late_answer_of_many_keeps_nobody_out(load: EngineLoad, clock: Clock):
    for took in [0.01] * 19 + [2.0]:
        answer(load, clock, took)
    load.admit()


def test_a_request_that_is_not_answered_counts_as_it_waits(load: EngineLoad, clock: Clock):
    answer(load, clock, 0.01)
    ticket = load.asked("vad")
    clock.now += 0.2
    load.admit()
    clock.now += 1.0
    with pytest.raises(EngineBusy):
        load.admit()
    load.answered(ticket)
    clock.now += WINDOW_S + 0.1
    load.admit()


def test_what_was_quickest_is_forgotten_slowly(load: EngineLoad, clock: Clock):
    """A machine that became slower for good is full later, not for ever."""
    answer(load, clock, 0.1)
    for _ in range(3000):
        answer(load, clock, 0.6)
    assert load.lag() < 0.3


async def test_recordings_wait_while_live_speech_does_but_not_for_ever(load: EngineLoad, clock: Clock):
    loop = asyncio.get_running_loop()
    began = loop.time()
    await live_first(load, patience_s=30)
    assert loop.time() - began < 5, "nobody is behind"

    ticket = load.asked("vad")
    clock.now += 0.2
    waiting = asyncio.create_task(live_first(load, patience_s=30))
    await asyncio.sleep(3 * YIELD_S)
    assert not waiting.done()
    load.answered(ticket)
    clock.now += 2 * WINDOW_S
    await waiting

    load.asked("vad")
    clock.now += 0.5
    began = loop.time()
    await live_first(load, patience_s=0.3)
    assert loop.time() - began >= 0.3


def test_sessions_are_refused_while_an_utterance_waits_for_its_first_partial(clock: Clock):
    load = EngineLoad(clock, limit_s=0.3, partial_wait_s=0.5)
    load.partials.limit = 1
    assert load.partials.take(list, first=False)
    assert not load.partials.take(lambda: None, first=False), "another one's next partial may wait"
    clock.now += 1.0
    load.admit()
    assert not load.partials.take(again := lambda: None, first=True)
    clock.now += 0.4
    assert not load.partials.take(again, first=True), "asking again does not begin to wait anew"
    load.admit()
    assert load.behind, "recordings give way before"
    clock.now += 0.2
    with pytest.raises(EngineBusy, match="first partials wait 600 ms; try again"):
        load.admit()
    load.partials.leave()
    load.admit()
