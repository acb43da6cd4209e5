"""Word confidence: the probability that a recognised word is right, from what the decoder knows about it.

A logistic regression on a few features of each word, fitted on a development set by `python -m export.confidence` and
stored beside the checkpoint as `confidence.json`. Without one, the geometric mean of the token probabilities.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILE = "confidence.json"


@dataclass(frozen=True)
class WordFeatures:
    """`mean` and `worst` log-probability of the word's tokens, mean `entropy` of their distributions in nats, `seconds`;
    `text`: mean log-probability of all tokens of the text it stands in."""

    mean: float
    worst: float
    entropy: float
    seconds: float
    text: float

    @classmethod
    def of(cls, logprobs: Sequence[float], entropies: Sequence[float], n_samples: int, text: float) -> WordFeatures:
        n = max(1, len(logprobs))
        return cls(sum(logprobs) / n, min(logprobs, default=0.0), sum(entropies) / n, n_samples / 16_000, text)

    def vector(self) -> list[float]:
        """What the regression sees. An unusually short or long word is one that was not heard where it is claimed; among
        doubted words a sure one is less often right."""
        return [self.mean, self.worst, self.entropy, math.exp(self.mean), math.log(max(self.seconds, 0.02)), self.text]


@dataclass(frozen=True)
class Calibrator:
    """`weights` of `WordFeatures.vector`, and the intercept."""

    weights: Sequence[float] = field(default_factory=tuple[float, ...])
    intercept: float = 0.0

    @classmethod
    def load(cls, folder: Path) -> Calibrator:
        """Of a checkpoint's folder; the identity where it has none."""
        path = folder / FILE
        if not path.exists():
            return cls()
        stored = json.loads(path.read_text("utf-8"))
        return cls(tuple(stored["weights"]), stored["intercept"])

    def probability(self, features: WordFeatures) -> float:
        """0..1."""
        if not self.weights:
            return math.exp(features.mean)
        known = features.vector()[: len(self.weights)]  # a checkpoint may have been fitted before there was the last
        z = self.intercept + sum(w * x for w, x in zip(self.weights, known, strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, z))))
