"""When a sentence's text was there, from what a stream's user saw and when. The same for every server; no sockets, no clock.

- The **text of a stream** over time is all its text so far (`wires.py`), as words: lower case, without punctuation.
- Which words of the last text belong to which sentence is told by the alignment of fewest edits with all that was said; of
  several such alignments, the one that ends each sentence soonest. Words that were there for good before a sentence began
  belong to those before it.
- **Final lag** of a sentence: from the moment at which the last sample of its speech was sent to the first moment from which
  on all words up to its end are there and stay as they are. It needs no word from the server that they are final.
- **Committed lag**: the same for the text that the server has marked as done with.
- **First partial**: from the moment at which the first sample of its speech was sent to the first text that has more words
  than the sentences before it.
- A sentence of which the last text has no word is missed: its lags are without end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class Said(NamedTuple):
    """A sentence, and when the first and the last sample of its speech were sent, in seconds."""

    text: str
    begin: float
    end: float


class Seen(NamedTuple):
    """All the text of a stream from `at` on, in seconds."""

    at: float
    text: str


@dataclass
class Lags:
    """Seconds, one of each for every sentence that was not missed; `first` lacks those that came all at once, too soon."""

    first: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    missed: int = 0


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def ends(sentences: Sequence[Sequence[str]], found: Sequence[str]) -> list[int]:
    """How many words of `found` there are up to the end of each sentence."""
    said = [w for s in sentences for w in s]
    before = _edits(said, found)
    after = _edits(said[::-1], found[::-1])[::-1, ::-1]
    cuts = np.cumsum([len(s) for s in sentences])
    return [int((before[c] + after[c]).argmin()) for c in cuts]


def _edits(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """(len(a) + 1, len(b) + 1): the fewest edits between each beginning of `a` and each of `b`."""
    cost = np.zeros((len(a) + 1, len(b) + 1), np.int32)
    cost[0] = np.arange(len(b) + 1)
    steps = np.arange(len(b) + 1)
    for i, word in enumerate(a, 1):
        differs = np.fromiter((word != w for w in b), np.int32, len(b))
        cost[i, 0] = i
        cost[i, 1:] = np.minimum(cost[i - 1, 1:] + 1, cost[i - 1, :-1] + differs)
        cost[i] = np.minimum.accumulate(cost[i] - steps) + steps  # insertions: along the row
    return cost


def lags(said: Sequence[Said], seen: Sequence[Seen]) -> Lags:
    """`seen` in the order of arrival."""
    out = Lags()
    texts = [words(s.text) for s in seen]
    last = texts[-1] if texts else []
    settled = _settled(texts)
    found = ends([words(s.text) for s in said], last)
    start = 0
    for k, sentence in enumerate(said):
        begin = said[k + 1].begin if k + 1 < len(said) else float("inf")
        end = max(found[k], start, *(n for s, n in zip(seen, settled, strict=True) if s.at <= begin), 0)
        if end == start:
            out.missed += 1
            continue
        out.final.append(next(s.at for s, n in zip(seen, settled, strict=True) if n >= end) - sentence.end)
        first = (s.at for s, t in zip(seen, texts, strict=True) if s.at >= sentence.begin and len(t) > start)
        if (at := next(first, None)) is not None:
            out.first.append(at - sentence.begin)
        start = end
    return out


def _settled(texts: Sequence[Sequence[str]]) -> list[int]:
    """How many words from the beginning never change again, from each text on."""
    out = [_common(t, texts[-1]) for t in texts]
    for i in range(len(out) - 2, -1, -1):
        out[i] = min(out[i], out[i + 1])
    return out


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the common beginning."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
