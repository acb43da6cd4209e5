"""Hypothesis strategies that several modules use."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def cuts(draw: st.DrawFn, length: int, most: int = 12) -> list[int]:
    """Sorted positions in 0..length where something is cut, doubled ones (empty pieces) included."""
    return sorted(draw(st.lists(st.integers(0, length), max_size=most)))


def pieces(whole: bytes, positions: Sequence[int]) -> list[bytes]:
    """`whole`, cut at the positions."""
    edges = [0, *positions, len(whole)]
    return [whole[a:b] for a, b in itertools.pairwise(edges)]
