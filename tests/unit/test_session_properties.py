"""What holds for every session, however the audio is cut and whenever the engine answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from frontend.speech.events import Decode, Final, Finished, Partial, RunAsr, SpeechEnded, SpeechStarted
from frontend.speech.settings import SessionSettings
from frontend.speech.vad_gate import FRAME, VadSettings
from tests.unit.driver import Driver, speech, window_as_text

Step = int | Literal["vad", "asr", "finalize"]
"""So many samples arrive, an engine answers, or the client wants a final."""

LOUD, QUIET = st.sampled_from([0.4, 0.6, 1.0, 1.0]), st.sampled_from([0.0, 0.0, 0.2, 0.4])
TURN = st.tuples(st.tuples(LOUD, st.integers(1, 50)), st.tuples(QUIET, st.integers(1, 40)))
RUNS = st.lists(TURN, min_size=2, max_size=6).map(lambda turns: [run for turn in turns for run in turn])
"""(Speech probability, frames): long enough to reach the longest segment, to pause, and to end."""

SETTINGS = st.builds(
    SessionSettings,
    vad=st.builds(
        VadSettings,
        start_frames=st.integers(1, 3),
        endpoint=st.sampled_from([160, 1_600, 8_000, 16_000]),
        pre_roll=st.sampled_from([0, 1_000, 4_800]),
        tail=st.sampled_from([0, 1_000, 4_096]),
    ),
    vad_enabled=st.sampled_from([True, True, True, False]),
    interim_results=st.booleans(),
    max_segment=st.sampled_from([25_000, 40_000, 11 * 16_000]),
    vad_chunk=st.sampled_from([FRAME, 3 * FRAME]),
)

RHYTHM = st.lists(
    st.one_of(st.integers(150, 700), st.integers(1_000, 12_000), st.sampled_from(["vad", "vad", "asr"])), max_size=8
)
"""Repeated to the end of the audio."""


@dataclass(frozen=True)
class Scenario:
    runs: list[tuple[float, int]]
    rest: int
    """Samples beyond the last whole frame."""
    settings: SessionSettings
    rhythm: list[Step]
    finalizes: list[int]
    """Samples at which the client wants a final."""

    @property
    def probabilities(self) -> list[float]:
        return speech(*self.runs)

    @property
    def n_samples(self) -> int:
        return len(self.probabilities) * FRAME + self.rest

    @property
    def steps(self) -> Iterator[Step]:
        position, due = 0, sorted(self.finalizes)
        for step in itertools.cycle([*self.rhythm, 5_000]):
            if not isinstance(step, int):
                yield step
                continue
            goal = min(position + step, self.n_samples)
            while due and due[0] <= goal:
                yield due[0] - position
                yield "finalize"
                position = due.pop(0)
            yield goal - position
            position = goal
            if position == self.n_samples:
                return


@st.composite
def scenarios(draw: st.DrawFn, *, finalizes: bool = True) -> Scenario:
    """Audio to the end of the script, cut anywhere, with answers and finalizes strewn in."""
    runs, rest = draw(RUNS), draw(st.integers(0, FRAME - 1))
    n_samples = len(speech(*runs)) * FRAME + rest
    wanted = draw(st.lists(st.integers(0, n_samples), max_size=4)) if finalizes else []
    return Scenario(runs, rest, draw(SETTINGS), draw(RHYTHM), wanted)


def play(scenario: Scenario, **driver: Any) -> Driver:
    d = Driver(scenario.probabilities, scenario.settings, **{"at_once": False, **driver})
    for step in scenario.steps:
        match step:
            case "vad":
                d.answer_vad()
            case "asr":
                d.answer_asr()
            case "finalize":
                d.finalize()
            case n:
                d.audio(n)
    d.close()
    return d


@given(scenarios())
def test_nothing_is_asked_that_was_given_up_before(scenario: Scenario):
    for asked in play(scenario).asked:
        assert asked.request.start >= asked.given_up


@given(scenarios())
def test_every_window_holds_audio_and_all_of_it_has_been_received(scenario: Scenario):
    for asked in play(scenario).asked:
        assert 0 <= asked.request.start < asked.request.end <= asked.received


@given(scenarios())
def test_no_window_grows_beyond_what_a_model_takes(scenario: Scenario):
    for request in play(scenario).decodes:
        assert request.end - request.start <= scenario.settings.max_segment + scenario.settings.vad.tail + FRAME


@given(scenarios())
def test_the_vad_hears_every_frame_once_and_in_order(scenario: Scenario):
    d = play(scenario)
    asked = [a.request for a in d.asked if not isinstance(a.request, RunAsr)]
    edges = [0, *(r.end for r in asked)]
    assert [r.start for r in asked] == edges[:-1]
    if scenario.settings.vad_enabled:
        assert edges[-1] == len(scenario.probabilities) * FRAME


@given(scenarios())
def test_finals_are_told_in_order_and_their_windows_do_not_overlap(scenario: Scenario):
    finals = play(scenario).finals
    assert all(a.end <= b.start and a.segment < b.segment for a, b in itertools.pairwise(finals))
    assert all(f.start <= f.end for f in finals)


def covered(d: Driver, first_frame: int, last_frame: int) -> bool:
    """Whether every sample of the frames lies in a final's window; those are in order and do not overlap."""
    low, high = first_frame * FRAME, last_frame * FRAME
    return sum(max(0, min(b, high) - max(a, low)) for a, b in d.windows) == high - low


def loud_runs(probabilities: list[float], enter: float) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of each run of frames at or above `enter`."""
    loud = [False, *(p >= enter for p in probabilities), False]
    edges = [i for i in range(len(loud) - 1) if loud[i] != loud[i + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


@given(scenarios(finalizes=False))
def test_every_run_of_speech_is_covered_by_exactly_one_final(scenario: Scenario):
    d = play(scenario)
    if not scenario.settings.vad_enabled:
        assert covered(d, 0, len(scenario.probabilities))
        return
    for first, last in loud_runs(scenario.probabilities, scenario.settings.vad.enter):
        if last - first >= scenario.settings.vad.start_frames:
            assert covered(d, first, last)


@given(scenarios())
def test_finalizes_lose_no_speech(scenario: Scenario):
    # With more than one frame to begin, a finalize between the two would begin the count anew.
    vad = replace(scenario.settings.vad, start_frames=1)
    scenario = replace(scenario, settings=replace(scenario.settings, vad=vad))
    d = play(scenario)
    runs = loud_runs(scenario.probabilities, vad.enter)
    assert all(covered(d, first, last) for first, last in runs)


@given(scenarios(finalizes=False))
def test_a_rest_shorter_than_a_frame_is_not_lost_when_speech_goes_on_to_the_end(scenario: Scenario):
    loud_to_the_end = replace(scenario, runs=[*scenario.runs, (1.0, 1)])
    n_frames, tail = len(loud_to_the_end.probabilities), scenario.settings.vad.tail
    limit = n_frames * FRAME + tail if scenario.settings.vad_enabled else loud_to_the_end.n_samples
    assert play(loud_to_the_end).windows[-1][1] == min(loud_to_the_end.n_samples, limit)


@given(scenarios())
def test_every_finalize_is_answered_by_exactly_one_requested_final(scenario: Scenario):
    n_asked = len(scenario.finalizes)
    n_told = sum(f.requested for f in play(scenario).finals)
    assert n_asked <= n_told <= n_asked + 1  # the close may ask for one more


@given(scenarios())
def test_when_the_engine_answers_at_once_every_finalize_is_answered_at_once(scenario: Scenario):
    d = Driver(scenario.probabilities, scenario.settings)
    for step in scenario.steps:
        if step == "finalize":
            before = len(d.finals)
            d.finalize()
            assert [f.requested for f in d.finals[before:]] in ([True], [False, True])
        elif isinstance(step, int):
            d.audio(step)


@given(scenarios())
def test_a_close_ends_with_finished_once_and_leaves_nothing_running(scenario: Scenario):
    d = play(scenario)
    assert d.n_finished == 1
    assert isinstance(d.events[-1], Finished)
    assert d.core.finished
    assert d.core.running_finals == 0


@given(scenarios())
def test_speech_starts_and_ends_by_turns_and_partials_belong_to_what_is_being_said(scenario: Scenario):
    d = play(scenario)
    assert all(isinstance(e, SpeechEnded if i % 2 else SpeechStarted) for i, e in enumerate(d.turns))
    assert [e.at for e in d.turns] == sorted(e.at for e in d.turns)
    since, settled = None, 0
    for event in d.events:
        match event:
            case SpeechStarted(at):
                since = at
            case SpeechEnded():
                since = None
            case Partial():
                assert scenario.settings.interim_results
                assert since is not None
                assert event.end > since
                assert event.segment > settled
            case Final():
                settled = event.segment
            case _:
                pass


@given(scenarios(), st.integers(100, 20_000))
def test_neither_the_cut_into_messages_nor_the_engines_pace_changes_what_is_told(scenario: Scenario, size: int):
    steady, d = play(replace(scenario, rhythm=[size]), at_once=True), play(scenario)
    assert d.finals == steady.finals
    assert d.turns == steady.turns


@given(scenarios(), st.data())
def test_partials_that_fail_change_nothing_but_themselves(scenario: Scenario, failing: st.DataObject):
    def answer(request: RunAsr):
        lost = request.command is Decode.PARTIAL and failing.draw(st.booleans())
        return None if lost else window_as_text(request)

    with_failures, without = play(scenario, answer=answer), play(scenario)
    assert with_failures.finals == without.finals

    def told(d: Driver) -> set[tuple[int, int, str]]:
        return {(p.start, p.end, p.text) for p in d.partials}

    assert told(with_failures) <= told(without)


@given(scenarios())
def test_after_the_close_nothing_is_kept_but_what_a_next_utterance_might_have_needed(scenario: Scenario):
    d = play(scenario, at_once=True)
    s = scenario.settings
    assert d.core.received - d.core.needed_from <= s.vad.pre_roll + s.vad_chunk + 9 * FRAME


def test_memory_needed_in_silence_does_not_grow():
    d = Driver([])
    d.frames(10_000)
    assert d.core.received - d.core.needed_from <= VadSettings().pre_roll + 12 * FRAME
