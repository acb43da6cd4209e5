"""Where speech without a pause is cut."""

from __future__ import annotations

from frontend.speech.cuts import LATE, best_gap
from frontend.speech.events import Word
from frontend.speech.vad_gate import FRAME


def word(text: str, first_frame: int, last_frame: int) -> Word:
    return Word(text, first_frame * FRAME, last_frame * FRAME, 0.9)


def test_a_window_is_cut_before_the_vad_hears_the_next_word():
    words = [word("the", 0, 10), word("big", 10, 20), word("problem", 20, 40), word("is", 40, 44)]
    quiet = [0.9] * 64
    quiet[19:24] = [0.2] * 5
    at, n = best_gap(quiet, 0, words, 15 * FRAME, 64 * FRAME)
    assert n == 2
    assert at == 21 * FRAME + FRAME // 2 - LATE


def test_the_word_before_a_cut_keeps_its_beginning():
    words = [word("the", 0, 19), word("a", 19, 20), word("problem", 20, 40), word("is", 40, 44)]
    quiet = [0.9] * 64
    quiet[17:22] = [0.1] * 5
    at, n = best_gap(quiet, 0, words, 20 * FRAME, 46 * FRAME)
    assert n == 2
    assert at == 19 * FRAME, "no earlier than that word begins"


def test_without_words_the_best_pause_is_taken():
    quiet = [0.9] * 64
    quiet[30:35] = [0.1] * 5
    at, n = best_gap(quiet, 0, [], 15 * FRAME, 64 * FRAME)
    assert n == 0
    assert 30 * FRAME <= at <= 35 * FRAME
