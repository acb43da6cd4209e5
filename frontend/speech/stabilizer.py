"""Which words of a running hypothesis may be told as settled: they are forced in every later decode.

Two policies:
- LocalAgreement-2 (Liu et al. 2020; Macháček et al. 2023): what two successive hypotheses agree on.
- AlignAtt (Papi et al. 2023): what does not attend to the last frames of the audio; one hypothesis is enough.

The last word of a hypothesis is never settled: the audio may end within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from frontend.speech.events import Hypothesis

Policy = Literal["local_agreement", "align_att"]


@dataclass(frozen=True)
class StabilizerSettings:
    policy: Policy = "local_agreement"
    margin: int = 3_200
    """Samples (200 ms) before the window's end in which no word is settled."""
    min_confidence: float = 0.0
    """A word of lower confidence, and what follows it, waits for the final."""


class Stabilizer:
    """Of one segment. `tokens` are the settled ones, `n_words` the words they make."""

    def __init__(self, settings: StabilizerSettings, tokens: tuple[int, ...] = (), n_words: int = 0) -> None:
        self._settings = settings
        self.tokens, self.n_words = tokens, n_words
        self._before: Hypothesis | None = None

    def update(self, h: Hypothesis, window: int, n_heard: int) -> None:
        """Takes the hypothesis of a window of so many samples, which begins with the settled tokens; at most its first
        `n_heard` words may be settled."""
        before, self._before = self._before, h
        if self._settings.policy == "local_agreement":
            if before is None:
                return
            agreed = next(
                (i for i, (a, b) in enumerate(zip(h.tokens, before.tokens, strict=False)) if a != b),
                min(len(h.tokens), len(before.tokens)),
            )
            borders = set(accumulate(before.word_tokens))
        else:
            agreed, borders = len(h.tokens), set(accumulate(h.word_tokens))
        for k, border in enumerate(accumulate(h.word_tokens)):
            word = h.words[k]
            if border <= len(self.tokens):
                continue
            if k >= min(n_heard, len(h.words) - 1) or border > agreed or border not in borders:
                break
            if word.end > window - self._settings.margin or word.confidence < self._settings.min_confidence:
                break
            self.tokens, self.n_words = h.tokens[:border], k + 1
