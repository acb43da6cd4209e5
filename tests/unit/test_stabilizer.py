"""Which words are told as settled, and that they stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frontend.speech.events import Hypothesis, Word
from frontend.speech.stabilizer import Stabilizer, StabilizerSettings

TOKENS = {"the": (1,), "cat": (2,), "cats": (2, 3), "sat": (4,), "mat": (5,), "mat.": (5, 6), "oh": (7,)}
STEP = 4_000
"""Samples of a word."""


def said(text: str, confidence: float = 0.9) -> Hypothesis:
    words = text.split()
    tokens = tuple(t for w in words for t in TOKENS[w])
    placed = tuple(Word(f" {w}", i * STEP, (i + 1) * STEP, confidence) for i, w in enumerate(words))
    return Hypothesis(text, tokens, (-0.1,) * len(tokens), placed, tuple(len(TOKENS[w]) for w in words))


def settled(*texts: str, policy: str = "local_agreement", margin: int = 0, **settings: float) -> int:
    s = Stabilizer(StabilizerSettings(policy, margin, **settings))  # type: ignore[arg-type]
    for text in texts:
        s.update(said(text), len(text.split()) * STEP, 99)
    return s.n_words


def test_words_that_two_hypotheses_agree_on_are_settled_but_for_the_last():
    assert settled("the cat sat") == 0
    assert settled("the cat sat", "the cat sat oh") == 3
    assert settled("the cat sat", "the cat sat") == 2
    assert settled("the cat sat", "the mat sat") == 1
    assert settled("oh the cat", "the cat sat") == 0


def test_a_word_that_had_an_ending_before_is_not_settled_without_it():
    assert settled("the cats sat", "the cat sat") == 1
    assert settled("the cat mat.", "the cat mat oh") == 2


def test_near_the_end_of_the_audio_nothing_is_settled():
    assert settled("the cat sat mat", "the cat sat mat", margin=2 * STEP) == 2


def test_a_doubted_word_waits_for_the_final_and_so_does_what_follows_it():
    s = Stabilizer(StabilizerSettings(min_confidence=0.5, margin=0))
    doubted = said("the cat sat oh")
    words = (doubted.words[0], Word(" cat", STEP, 2 * STEP, 0.2), *doubted.words[2:])
    for _ in range(2):
        s.update(Hypothesis(doubted.text, doubted.tokens, doubted.logprobs, words, doubted.word_tokens), 4 * STEP, 99)
    assert s.n_words == 1


def test_a_word_in_silence_is_not_settled():
    s = Stabilizer(StabilizerSettings(margin=0))
    for _ in range(2):
        s.update(said("the cat sat mat"), 4 * STEP, n_heard=1)
    assert s.n_words == 1


def test_attention_needs_one_hypothesis_and_keeps_away_from_the_end():
    assert settled("the cat sat mat", policy="align_att") == 3
    assert settled("the cat sat mat", policy="align_att", margin=2 * STEP) == 2


HYPOTHESES = st.lists(st.lists(st.sampled_from(list(TOKENS)), max_size=8), max_size=6)


@given(HYPOTHESES, st.sampled_from(["local_agreement", "align_att"]), st.sampled_from([0, 3_000, 9_000]))
def test_settled_words_only_grow_and_stay_the_beginning(texts: list[list[str]], policy: str, margin: int):
    s = Stabilizer(StabilizerSettings(policy, margin))  # type: ignore[arg-type]
    for words in texts:
        before, n = s.tokens, s.n_words
        forced = _words(before) + words
        s.update(said(" ".join(forced)), len(forced) * STEP, 99)
        assert s.tokens[: len(before)] == before
        assert s.n_words >= n
        assert _words(s.tokens) == forced[: s.n_words]


def _words(tokens: tuple[int, ...]) -> list[str]:
    """The words that tokens stand for; endings belong to the word before."""
    out: list[str] = []
    rest = list(tokens)
    while rest:
        word = max((w for w, t in TOKENS.items() if tuple(rest[: len(t)]) == t), key=lambda w: len(TOKENS[w]))
        out.append(word)
        del rest[: len(TOKENS[word])]
    return out
