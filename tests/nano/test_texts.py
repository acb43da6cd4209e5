"""Sentences: held-out text is never trained on, whatever the source or seed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from export.nano import english, texts


@pytest.fixture(autouse=True)
def _sources(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Small stand-ins for the Debian packages, so that the tests do not depend on what is installed."""
    for part in ("noun", "verb", "adj", "adv"):
        lines = [
            f"00003356 00 a 01 word_of_{part}(p) 0 000 | meaning {english.spell(i)} (or so); "
            f'"the {part} number {english.spell(i)} fell down the stairs"'
            for i in range(300)
        ]
        (tmp_path / f"data.{part}").write_text("\n".join(lines))
    (tmp_path / "wisdom").write_text(
        "\n%\n".join(f"A wise {english.spell(i)} said nothing at all.\n\t\t-- Someone" for i in range(200))
    )
    monkeypatch.setattr(texts.wordnet_examples, "__defaults__", (tmp_path,))
    monkeypatch.setattr(texts.wordnet_definitions, "__defaults__", (tmp_path,))
    monkeypatch.setattr(texts.fortunes, "__defaults__", (tmp_path,))


def test_training_and_held_out_sentences_share_none_for_any_seed():
    train = {" ".join(texts.words_of(t)) for seed in (1, 2) for t in texts.corpus(600, seed)}
    held = {" ".join(texts.words_of(t)) for seed in (1, 77) for t in texts.corpus(60, seed, held_out=True)}
    assert len(train) > 900
    assert len(held) > 60
    assert not train & held


def test_punctuation_and_case_do_not_move_a_sentence_across_the_split():
    for i in range(300):
        assert texts.is_held_out(f"Sentence number {i}, again.") == texts.is_held_out(f"sentence number {i} again")


def test_definitions_follow_their_words_and_are_never_held_out():
    definition = "Word of noun, meaning twenty one."
    assert definition in set(texts.wordnet_definitions())
    assert not set(texts.wordnet_definitions()) & set(texts.corpus(200, 1, held_out=True))
    assert set(texts.wordnet_definitions()) & set(texts.corpus(600, 1))


def test_the_same_seed_gives_the_same_sentences():
    assert texts.corpus(200, 5) == texts.corpus(200, 5)
    assert texts.corpus(200, 5) != texts.corpus(200, 6)


def test_every_sentence_can_be_said_as_it_is_written():
    for text in texts.corpus(2000, 3):
        assert re.fullmatch(r"[A-Z][A-Za-z' ,.?!\-]*[.?!]", text), text
        assert "  " not in text


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "zero"), (17, "seventeen"), (40, "forty"), (99, "ninety nine"), (100, "one hundred"),
     (342, "three hundred and forty two"), (20000, "twenty thousand"), (1001, "one thousand one")],
)  # fmt: skip
def test_numbers_are_spelled(n: int, words: str):
    assert english.spell(n) == words


def test_dates_and_years_are_spelled():
    assert [english.ordinal(n) for n in (1, 12, 20)] == ["first", "twelfth", "twentieth"]
    assert [english.ordinal(n) for n in (21, 30, 31)] == ["twenty first", "thirtieth", "thirty first"]
    assert [english.year(n) for n in (1984, 1900, 1905)] == ["nineteen eighty four", "nineteen hundred", "nineteen oh five"]
    assert [english.year(n) for n in (2000, 2007, 2024)] == ["two thousand", "two thousand and seven", "twenty twenty four"]


def test_the_words_of_a_dictionary_are_said_once_each(tmp_path: Path):
    path = tmp_path / "words"
    path.write_text("abacus\nAlice\nzebra's\nzebra\nétude\nmend\nNATO\nquilt\nsorrow\nriver\ntoll\n")
    said = list(texts.word_lists(1, path))
    assert sorted(w for s in said for w in texts.words_of(s)) == sorted(
        ["abacus", "alice", "zebra", "mend", "quilt", "sorrow", "river", "toll"]
    )
    assert all(s[0].isupper() and s.endswith(".") for s in said)
    assert all(len(s.split()) <= 5 for s in said)
    assert list(texts.word_lists(1, tmp_path / "none")) == []
