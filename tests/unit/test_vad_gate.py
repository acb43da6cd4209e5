"""When speech counts as begun and as over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frontend.speech.vad_gate import FRAME, Ended, Started, VadGate, VadSettings
from tests.unit.driver import speech

PROBABILITIES = st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.6, 1.0]), max_size=80)


def changes(probabilities: list[float], **settings: float) -> list[Started | Ended]:
    return list(VadGate(VadSettings(**settings)).feed(probabilities))


def test_speech_begins_at_the_first_of_enough_loud_frames():
    assert changes(speech((0.0, 3), (0.9, 2))) == [Started(3 * FRAME)]
    assert changes(speech((0.0, 3), (0.9, 4)), start_frames=4) == [Started(3 * FRAME)]


def test_one_loud_frame_alone_is_a_click_and_no_speech():
    assert changes(speech((0.9, 1), (0.0, 5), (0.9, 1), (0.4, 5))) == []


def test_what_would_keep_speech_going_does_not_begin_it():
    assert changes(speech((0.45, 50))) == []
    assert changes(speech((0.9, 2), (0.45, 50))) == [Started(0)]


def test_the_thresholds_themselves_count_as_speech():
    assert changes(speech((0.5, 2), (0.35, 50))) == [Started(0)]


def test_speech_ends_where_it_was_last_heard_once_the_silence_is_long_enough():
    hang = -(-(8_000 - VadSettings().late) // FRAME)
    assert changes(speech((0.9, 10), (0.1, hang - 1))) == [Started(0)]
    assert changes(speech((0.9, 10), (0.1, hang))) == [Started(0), Ended(10 * FRAME)]


def test_a_pause_shorter_than_the_hang_is_part_of_the_speech():
    assert changes(speech((0.9, 10), (0.1, 14), (0.4, 1), (0.1, 14), (0.9, 3))) == [Started(0)]


def test_after_an_end_speech_must_begin_anew():
    turns = changes(speech((0.9, 2), (0.0, 20), (0.9, 1), (0.0, 1), (0.9, 2)))
    assert turns == [Started(0), Ended(2 * FRAME), Started(24 * FRAME)]


def test_a_click_right_after_an_end_is_still_only_a_click():
    assert changes(speech((0.9, 2), (0.0, 16), (0.9, 1), (0.0, 5))) == [Started(0), Ended(2 * FRAME)]


def test_a_hint_starts_speech_that_is_too_short_to_count_otherwise():
    gate = VadGate(VadSettings(start_frames=3))
    assert list(gate.feed(speech((0.0, 4), (0.9, 2)))) == []
    assert gate.hint() == Started(4 * FRAME)
    assert gate.speaking
    assert gate.last_speech == 6 * FRAME


def test_a_hint_says_nothing_in_silence_and_nothing_new_in_speech():
    gate = VadGate(VadSettings())
    assert gate.hint() is None
    list(gate.feed(speech((0.9, 1), (0.2, 1))))
    assert gate.hint() is None
    list(gate.feed(speech((0.9, 5))))
    assert gate.hint() is None


def test_after_an_interruption_speech_must_begin_anew():
    gate = VadGate(VadSettings())
    list(gate.feed(speech((0.9, 5))))
    gate.interrupt()
    assert list(gate.feed([0.9])) == []
    assert list(gate.feed([0.9])) == [Started(5 * FRAME)]


@given(PROBABILITIES, st.integers(1, 4), st.sampled_from([160, 1_600, 8_000]))
def test_starts_and_ends_take_turns_and_lie_in_order(probabilities: list[float], start_frames: int, endpoint: int):
    turns = changes(probabilities, start_frames=start_frames, endpoint=endpoint)
    assert all(isinstance(t, Ended if i % 2 else Started) for i, t in enumerate(turns))
    assert [t.at for t in turns] == sorted(t.at for t in turns)
    assert all(0 <= t.at <= len(probabilities) * FRAME for t in turns)


@given(PROBABILITIES, st.integers(0, 80))
def test_feeding_in_pieces_changes_nothing(probabilities: list[float], at: int):
    gate = VadGate(VadSettings())
    in_pieces = [*gate.feed(probabilities[:at]), *gate.feed(probabilities[at:])]
    assert in_pieces == changes(probabilities)
