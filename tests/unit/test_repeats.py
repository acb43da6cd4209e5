"""Loops of a decoder that has gone astray."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.engine.scores import repeats


@pytest.mark.parametrize(
    ("tokens", "to_drop"),
    [
        ([], 0),
        ([1], 0),
        ([1, 2, 3, 4, 5, 6], 0),
        ([1] * 5, 0),  # "no, no, no, no, no" is said by people
        ([1] * 6, 5),
        ([9, 1, 2] + [1, 2] * 5, 10),
        ([9, 1, 2] + [1, 2] * 4, 0),
        ([9, 1, 2, 3, 1, 2, 3, 1, 2, 3], 6),
        ([9, 1, 2, 3, 1, 2, 3], 0),
        ([*range(12)] * 3, 24),
        ([*range(13)] * 3, 0),
        ([1, 2, 3, 1, 2, 3, 1, 2, 3, 4], 0),  # it went on
        ([1, 2, 3, 1, 2, 4, 1, 2, 3], 0),
    ],
)
def test_a_loop_is_what_is_said_often_enough_without_a_change(tokens: list[int], to_drop: int):
    assert repeats(tokens) == to_drop


@given(st.lists(st.integers(0, 3), max_size=60))
def test_dropping_a_loop_leaves_its_first_round(tokens: list[int]):
    n = repeats(tokens)
    assert 0 <= n < max(1, len(tokens))
    if n:
        kept = tokens[:-n]
        assert any(tokens[len(kept) - size :] == kept[-size:] * (n // size + 1) for size in range(1, 13) if n % size == 0)


@given(st.lists(st.integers(), max_size=60, unique=True))
def test_text_without_repetition_is_never_a_loop(tokens: list[int]):
    assert repeats(tokens) == 0


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(10, 20), min_size=1, max_size=12, unique=True))
def test_a_loop_is_found_whatever_was_said_before_it(before: list[int], loop: list[int]):
    rounds = 3 if len(loop) > 2 else 6
    assert repeats(before + loop * rounds) == len(loop) * (rounds - 1)
