"""Which words of a running hypothesis may be told as settled: they are forced in every later decode.

Two policies:
- LocalAgreement-2 (Liu et al. 2020; Macháček et al. 2023): what two successive hypotheses agree on.
- AlignAtt (Papi et al. 2023): what does not attend to the last frames of the audio; one hypothesis is enough.

The last word of a hypothesis is never settled: the audio may end within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Literal

from frontend.speech.events import Hypothesis

Policy = Literal["local_agreement", "align_att"]


AGREEING = {"local_agreement": 2, "align_att": 1}
"""Successive hypotheses that have to say the same."""


@dataclass(frozen=True)
class StabilizerSettings:
    policy: Policy = "local_agreement"
    margin: int = 3_200
    """Samples (200 ms) before the window's end in which no word is settled."""
    doubted: float = 0.8
    """A word of lower confidence, and what follows it, is settled only when `agreeing_in_doubt` hypotheses say the same."""
    agreeing_in_doubt: int = 3


class Stabilizer:
    """Of one segment. `tokens` are the settled ones, `n_words` the words they make."""

    def __init__(self, settings: StabilizerSettings, tokens: tuple[int, ...] = (), n_words: int = 0) -> None:
        self._settings = settings
        self.tokens, self.n_words = tokens, n_words
        self._before: tuple[int, ...] = ()
        self._said: dict[int, int] = {}
        """For each end of a word in `_before`: how many hypotheses in a row have said all up to it."""

    def update(self, h: Hypothesis, window: int, n_heard: int) -> None:
        """Takes the hypothesis of a window of so many samples, which begins with the settled tokens; at most its first
        `n_heard` words may be settled."""
        settings = self._settings
        same = takewhile(lambda pair: pair[0] == pair[1], zip(h.tokens, self._before, strict=False))
        agreed = sum(1 for _ in same)
        self._said = {b: 1 + (self._said.get(b, 0) if b <= agreed else 0) for b in accumulate(h.word_tokens)}
        self._before = h.tokens
        for k, (border, n_said) in enumerate(self._said.items()):
            word = h.words[k]
            if border <= len(self.tokens):
                continue
            needed = AGREEING[settings.policy]
            if word.confidence < settings.doubted:
                needed = max(needed, settings.agreeing_in_doubt)
            if k >= min(n_heard, len(h.words) - 1) or n_said < needed or word.end > window - settings.margin:
                break
            self.tokens, self.n_words = h.tokens[:border], k + 1
