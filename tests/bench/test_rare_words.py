"""Missed words are counted in the class of how often they were heard."""

from __future__ import annotations

from bench.rare_words import missed, row

HEARD = {"the": 5000, "train": 400, "leaves": 12, "soon": 3, "zebra": 1}


def test_each_word_is_counted_where_it_belongs():
    counts = missed(HEARD, ["The train leaves soon.", "A zebra leaves!"], ["the train leafs soon", "zebra leaves"])
    never, once, some, more, often, always = counts
    assert never == (1, 1)  # a
    assert once == (0, 1)
    assert some == (0, 1)
    assert more == (1, 2)
    assert often == (0, 1)
    assert always == (0, 1)


def test_nothing_said_and_nothing_heard():
    assert missed(HEARD, ["...", "Soon."], ["yes", ""])[2] == (1, 1)
    assert row("en", missed(HEARD, ["Soon."], ["soon"])) == ["en", "", "", "0 % of 1", "", "", "", "0.0 % of 1"]
