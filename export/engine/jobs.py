"""What the scheduler is asked for and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .batch import Array
from .confidence import WordFeatures


class Cancelled(Exception):
    """Nobody waits for the job's answer any more."""


@dataclass
class Hypothesis:
    """What a decode found. Word times are samples from the window's start; the lists about words are of one length."""

    tokens: list[int]
    logprobs: list[float]
    text: str
    no_speech_probability: float
    words: list[str] = field(default_factory=list)
    word_tokens: list[int] = field(default_factory=list)
    """How many tokens each word is made of."""
    word_times: list[tuple[int, int]] = field(default_factory=list)
    word_probabilities: list[float] = field(default_factory=list)
    word_alternatives: list[list[tuple[str, float]]] = field(default_factory=list)
    features: list[WordFeatures] = field(default_factory=list)
    language: str = "en"
    language_probability: float = 1.0
    temperature: float = 0.0
    queue_ms: float = 0.0
    encode_ms: float = 0.0
    """Where the batch encodes."""
    decode_ms: float = 0.0


@dataclass
class Job:
    """One window to decode. `prefix` are committed tokens, forced before the decode goes on.

    A prompt of language `AUTO` has a place for the language, which is found first. `temperatures`: where the text at one
    is doubtful, it is decoded again at the next.
    """

    window: Array
    """What the batch takes: hidden states, float32 (T, d), or PCM, int16 (n,)."""
    n_samples: int
    prompt: list[int]
    prefix: list[int]
    language: str
    want_words: bool
    done: Callable[[Hypothesis | Exception], None]
    cancelled: Callable[[], bool] = lambda: False
    urgent: bool = True
    """Finals are; partials wait for them."""
    temperatures: tuple[float, ...] = (0.0,)
    beam_size: int = 1
    """Texts that are followed at once, at temperature 0; 1 is greedy."""
    n_alternatives: int = 0
    only_word: bool = False
    """Stop where the word that the prefix begins is complete."""
    language_probability: float = 1.0
    attempts: list[Hypothesis] = field(default_factory=list[Hypothesis])
    created: float = field(default_factory=time.perf_counter)

    @property
    def width(self) -> int:
        """Texts that this attempt follows at once."""
        return self.beam_size if self.temperatures[len(self.attempts)] <= 0 else 1
