"""Which utterance is heard next: languages by their shares, utterances by how rare their words are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from export.nano import corpus
from export.nano.texts import words_of


class Pool:
    """Utterances to draw from, of one language or of one kind."""

    def __init__(self, items: Iterable[corpus.Item] = ()) -> None:
        self.items = list(items)
        self._up_to: npt.NDArray[np.float64] | None = None

    def add(self, item: corpus.Item) -> None:
        self.items.append(item)
        self._up_to = None

    def draw(self, r: np.random.Generator, rare: float = 0.0) -> corpus.Item:
        """One of them, each as likely; of a share of `rare` of the draws each as likely as its words are unknown.

        A word heard `n` times counts 1/√n: about how often it is misspelled. An utterance counts the mean of its words,
        since a long one costs more to hear.
        """
        if rare == 0 or r.random() >= rare:
            return self.items[int(r.integers(len(self.items)))]
        if self._up_to is None:
            words = [words_of(i.text) for i in self.items]
            heard = Counter(w for said in words for w in said)
            weights = [sum(heard[w] ** -0.5 for w in said) / max(1, len(said)) for said in words]
            self._up_to = np.cumsum(weights)
        at = int(np.searchsorted(self._up_to, r.random() * self._up_to[-1], "right"))
        return self.items[min(at, len(self.items) - 1)]


def next_language(r: np.random.Generator, present: Iterable[str], shares: Mapping[str, float]) -> str:
    """One of those that are present, as often as its share says; 1 where none is said."""
    codes = sorted(present)
    weights = np.array([shares.get(code, 1.0) for code in codes])
    return codes[int(r.choice(len(codes), p=weights / weights.sum()))]
