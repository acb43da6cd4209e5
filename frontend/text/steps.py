"""The steps of the pipeline. One that merges or moves words says which of them may still change as more are heard.

`may_join(a, b)` of a merging step looks at two neighbours only (b is None: whatever may come), and the step never reaches
over neighbours that do not join.
So it treats every group of joined words by itself (looking back at most), and whatever is said later can only change the
last group: all groups before it are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from frontend.speech.events import Word
from frontend.text.words import bare

Words = Sequence[Word]


def settled(words: Words, may_join: Callable[[str, str | None], bool]) -> int:
    """Leading words that no later word changes: those before the last group, if more may join it."""
    at = len(words)
    following: str | None = None
    while at and may_join(words[at - 1].text, following):
        at -= 1
        following = words[at].text
    return at


@dataclass(frozen=True)
class Step:
    """Without `may_join` words are treated one by one, so that the result for a beginning is the beginning of the result
    (prefix-monotone). Else `may_join` bounds what belongs together, and `tail` is done to words that may still change."""

    name: str
    run: Callable[[Words], list[Word]]
    may_join: Callable[[str, str | None], bool] | None = None
    tail: Callable[[Words], list[Word]] = list

    @property
    def prefix_monotone(self) -> bool:
        return self.may_join is None

    def partial(self, stable: Words, tail: Words) -> tuple[list[Word], list[Word]]:
        """The settled part of stable words as it will stay, and the rest as it may be shown."""
        if self.may_join is None:
            return self.run(stable), self.run(tail)
        at = settled(stable, self.may_join)
        return self.run(stable[:at]), self.tail([*stable[at:], *tail])


def bared(words: Words) -> list[Word]:
    """Words of marks alone are dropped."""
    return [word if word.text == text else replace(word, text=text) for word in words if (text := bare(word.text))]
