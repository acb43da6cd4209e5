"""A live session whose engine is slow, away, broken or shared."""

from __future__ import annotations

import asyncio
import time

import pytest

from frontend.control.load import EngineLoad
from frontend.errors import EngineRejected, EngineUnavailable
from frontend.inference.base import Pcm
from frontend.inference.fake import FakeEngine
from frontend.speech.events import Decode, Partial, RunAsr
from frontend.speech.settings import RATE
from tests.unit.live import eventually, live, loud, quiet, utterances


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
