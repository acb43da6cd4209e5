"""Where long speech is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from frontend.speech.cuts import LATE, best_gap, best_pause
from frontend.speech.events import Word
from frontend.speech.vad_gate import FRAME
from tests.unit.driver import speech


def cut(probabilities: list[float], earliest_frame: int = 0, start: int = 0) -> int:
    """The cut in frames from the start, between a frame and the end of the probabilities."""
    end = start + len(probabilities) * FRAME
    return (best_pause(probabilities, start, start + earliest_frame * FRAME, end) - start) // FRAME


def test_a_pause_is_cut_in_its_middle():
    assert 40 <= cut(speech((1.0, 38), (0.0, 11), (1.0, 51)), 20) <= 46


def test_the_deeper_of_two_pauses_wins():
    assert 30 <= cut(speech((1.0, 30), (0.0, 6), (1.0, 30), (0.5, 6), (1.0, 28))) < 36


def test_the_later_of_two_equal_pauses_wins():
    assert 66 <= cut(speech((1.0, 30), (0.0, 6), (1.0, 30), (0.0, 6), (1.0, 28))) < 72


def test_a_pause_much_later_wins_over_one_that_is_hardly_deeper():
    pauses = [(1.0, 20), (0.30, 6), (1.0, 60), (0.32, 6), (1.0, 8)]
    assert 80 <= cut(speech(*pauses)) < 92


def test_a_pause_before_the_earliest_cut_does_not_count():
    assert cut(speech((1.0, 10), (0.0, 10), (1.0, 80)), 50) >= 50


def test_a_stop_consonant_is_not_taken_for_a_pause():
    assert 60 <= cut(speech((1.0, 20), (0.0, 1), (1.0, 40), (0.3, 8), (1.0, 31))) < 70


def test_even_speech_is_cut_as_late_as_can_be():
    assert cut(speech((1.0, 100)), 50) == 99


def test_times_count_from_the_start_of_the_segment():
    probabilities = speech((1.0, 40), (0.0, 5), (1.0, 40))
    assert cut(probabilities, 20, start=123_456) == cut(probabilities, 20)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=120),
    st.integers(0, 100_000),
    st.integers(0, 119),
)
def test_the_cut_always_lies_between_the_limits(probabilities: list[float], start: int, earliest_frame: int):
    earliest = start + min(earliest_frame, len(probabilities) - 1) * FRAME
    latest = start + len(probabilities) * FRAME
    assert earliest <= best_pause(probabilities, start, earliest, latest) <= latest


# --- between words --------------------------------------------------------------------------------------------------


def gap(quiet_from: int, ends: list[int], earliest: int) -> tuple[int, int]:
    """The cut and the words before it, of words that end at these frames and a place of five frames that is quieter."""
    words = [Word(f" {end}", start * FRAME, end * FRAME, 0.9) for start, end in itertools.pairwise([0, *ends])]
    return best_gap(speech((0.9, quiet_from), (0.2, 5), (0.9, 60)), 0, words, earliest * FRAME, 64 * FRAME)


def test_a_window_is_cut_before_the_vad_hears_the_next_word():
    assert gap(19, [10, 20, 40, 44], 15) == (21 * FRAME + FRAME // 2 - LATE, 2)


def test_the_word_before_a_cut_keeps_its_beginning():
    assert gap(17, [19, 20, 40, 44], 20) == (19 * FRAME, 2)


def test_without_words_the_best_pause_is_taken():
    at, n = gap(30, [], 15)
    assert n == 0
    assert 30 * FRAME <= at <= 35 * FRAME
