"""Numbers about a hypothesis: probabilities, entropy, and the signs that it was made up.

Thresholds are those of openai/whisper `transcribe.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

MAX_COMPRESSION = 2.4
"""Text that gzip makes smaller than by this is repetition."""
MIN_LOGPROB = -1.0
"""Mean log-probability of the tokens below which a text is doubted."""
MAX_NO_SPEECH = 0.6
"""Above it, silence explains a low log-probability."""


WIDEST = 12
"""Texts that a beam follows at the most: a step tells the likeliest `WIDEST` + 1 tokens after each."""


class Rule(IntEnum):
    """What may come next; the rows of `Vocabulary.rules`."""

    ANYTHING = 0
    TEXT = 1
    FIRST = 2
    """Text of which there is nothing yet."""
    NEW_WORD = 3
    """Text that leaves the word before as it is."""
    LANGUAGE = 4


class Ranking(Protocol):
    """The probabilities of what may come next, wherever they were computed."""

    @property
    def entropy(self) -> float:
        """In nats."""
        ...

    def draw(self, temperature: float, r: np.random.Generator) -> int:
        """The likeliest token at temperature 0, else one by chance."""
        ...

    def logprob(self, token: int) -> float:
        """Of a token that was drawn or asked for."""
        ...

    def best(self, n: int) -> list[tuple[int, float]]:
        """The likeliest tokens and their log-probabilities."""
        ...


@dataclass
class Listed:
    """Every token's log-probability, (vocab,)."""

    scores: Float

    @property
    def entropy(self) -> float:
        return entropy(self.scores)

    def draw(self, temperature: float, r: np.random.Generator) -> int:
        return draw(self.scores, temperature, r)

    def logprob(self, token: int) -> float:
        return float(self.scores[token])

    def best(self, n: int) -> list[tuple[int, float]]:
        likely = np.argpartition(self.scores, -n)[-n:]
        return [(int(t), float(self.scores[t])) for t in likely[np.argsort(self.scores[likely])[::-1]]]


@dataclass
class Podium:
    """The `N` likeliest as a device found them; `everything` fetches the rest, for a draw by chance.

    `numbers` float32 (2 N + 2,): log-probabilities, tokens, entropy, log-probability of the token that was asked for.
    """

    N = WIDEST + 1
    """What a beam needs, and `best(12)` beside a token that is left out of it."""

    numbers: Float
    asked: int
    everything: Callable[[], Float]
    _listed: Listed | None = None

    @property
    def entropy(self) -> float:
        return float(self.numbers[2 * self.N])

    def draw(self, temperature: float, r: np.random.Generator) -> int:
        if temperature <= 0:
            return int(self.numbers[self.N])
        self._listed = Listed(self.everything())
        return self._listed.draw(temperature, r)

    def logprob(self, token: int) -> float:
        if token == self.asked:
            return float(self.numbers[2 * self.N + 1])
        if self._listed:
            return self._listed.logprob(token)
        assert token == int(self.numbers[self.N]), "only the likeliest, or what was asked for"
        return float(self.numbers[0])

    def best(self, n: int) -> list[tuple[int, float]]:
        return [(int(t), float(p)) for t, p in zip(self.numbers[self.N :][:n], self.numbers[:n], strict=True)]


def log_softmax(x: Float) -> Float:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def repeats(tokens: Sequence[int], longest: int = 12, times: int = 3) -> int:
    """How many tokens at the end are a loop: a run of up to `longest` tokens said `times` times over; 0 if none."""
    for n in range(1, longest + 1):
        needed = n * (times if n > 2 else times * 2)
        if len(tokens) >= needed and all(tokens[-k - 1] == tokens[-k - 1 - n] for k in range(needed - n)):
            return needed - n
    return 0


def entropy(logprobs: Float) -> float:
    """In nats, of one distribution given as log-probabilities (vocab,); -inf entries count nothing."""
    known = logprobs[np.isfinite(logprobs)]
    return float(-(np.exp(known) * known).sum())


def compression(text: str) -> float:
    """How many times smaller zlib makes the text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def doubtful(text: str, logprobs: Sequence[float], no_speech: float) -> bool:
    """Whether Whisper's reference would decode again at a higher temperature."""
    mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
    if no_speech > MAX_NO_SPEECH and mean < MIN_LOGPROB:
        return False
    return compression(text) > MAX_COMPRESSION or mean < MIN_LOGPROB


def draw(logprobs: Float, temperature: float, r: np.random.Generator) -> int:
    """The likeliest token at temperature 0, else a sample (Gumbel's way)."""
    if temperature <= 0:
        return int(logprobs.argmax())
    noise: npt.NDArray[Any] = -np.log(-np.log(r.random(len(logprobs)) + 1e-20) + 1e-20)
    return int((logprobs / temperature + noise).argmax())
