"""Which texts of a window are followed: the likeliest token after another, one drawn by chance, or a beam of several texts.

A beam as in openai/whisper `decoding.py`: at each step the `width` likeliest texts of all that grow out of those before go
on; one that ends is put aside; when `width` have ended, the one with the highest mean log-probability is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .batch import Float, Seat, Turn
from .jobs import Job
from .scores import Ranking, Rule, repeats
from .vocabulary import UNSPACED, Vocabulary

LONGEST_WORD = 8
"""Tokens of an alternative."""
IMPOSSIBLE = -1e8
"""Log-probability of what may not come, or less."""
Rivals = list[tuple[int, float]]


@dataclass(eq=False)
class Row:
    """A text on its way. Its caches are to be `source`'s at the next step, and `seat`'s from then on."""

    seat: Seat
    tokens: list[int]
    logprobs: list[float]
    attention: list[Float]
    source: Seat
    entropies: list[float] = field(default_factory=list[float])
    rivals: list[Rivals] = field(default_factory=list[Rivals])
    """For each token, when alternatives are wanted: the other likely tokens and their log-probabilities."""
    score: float = 0.0
    """Log-probability of what was not given."""

    def grown(self, logprob: float) -> Row:
        """A copy; the caller says what has grown."""
        return replace(
            self, tokens=[*self.tokens], logprobs=[*self.logprobs, logprob], attention=[*self.attention], source=self.seat,
            entropies=[*self.entropies], rivals=[*self.rivals], score=self.score + logprob,
        )  # fmt: skip


def rule_after(job: Job, tokens: Sequence[int]) -> Rule:
    """By which the token after these is chosen."""
    settled = bool(job.prefix) and len(tokens) == len(job.prefix)  # its last word is to stay as it is
    if settled and not job.only_word and job.language not in UNSPACED:
        return Rule.NEW_WORD
    return Rule.TEXT if tokens else Rule.FIRST


@dataclass(eq=False)
class Search:
    """The rows of one job. `limit`: tokens of a text at the most."""

    job: Job
    vocabulary: Vocabulary
    rows: list[Row]
    limit: int
    no_speech: float
    encode_ms: float
    admitted: float = field(default_factory=time.perf_counter)
    cancelled: bool = False
    ended: list[Row] = field(default_factory=list[Row])
    looped: list[Row] = field(default_factory=list[Row])
    """Texts that turned in circles, cut off where they began to; answered only if there is no other."""

    def __post_init__(self) -> None:
        attempt = len(self.job.attempts)
        self.temperature = self.job.temperatures[attempt]
        self.width = self.job.width
        self._random = np.random.default_rng((self.job.n_samples, attempt))

    @property
    def seats(self) -> list[Seat]:
        return [row.seat for row in self.rows]

    @property
    def over(self) -> bool:
        return self.cancelled or not self.rows or len(self.ended) >= self.width

    def turns(self) -> list[Turn]:
        return [Turn(r.seat, r.tokens[-1], rule_after(self.job, r.tokens), r.source) for r in self.rows]

    def note(self, row: Row, ranking: Ranking, token: int) -> None:
        if self.job.want_words:
            row.entropies.append(ranking.entropy)
        if self.job.n_alternatives:
            rivals = ((t, p) for t, p in ranking.best(12) if t != token and self.vocabulary.begins_word(t))
            row.rivals.append(list(rivals))

    def advance(self, rankings: Sequence[Ranking], spare: Sequence[Seat] = ()) -> list[Seat]:
        """Goes on with the likeliest texts that grow out of the rows, in the rows' seats and in those to spare; returns the
        seats that are left."""
        found = [
            (row.score + logprob, logprob, token, row, ranking)
            for row, ranking in zip(self.rows, rankings, strict=True)
            for token, logprob in self._likely(ranking)
        ]
        found.sort(key=lambda f: -f[0])
        grown: list[Row] = []
        for _, logprob, token, parent, ranking in found:
            if len(grown) == self.width or len(self.ended) == self.width:
                break
            row = parent.grown(logprob)
            if self._ends(parent, token):
                self.ended.append(row)
                continue
            row.tokens.append(token)
            if loop := repeats(row.tokens):
                del row.tokens[-loop:], row.logprobs[-loop:], row.attention[-loop:]
                self.looped.append(row)
                continue
            self.note(row, ranking, token)
            grown.append(row)
        continued = [row.source for row in grown]
        free = [*(seat for seat in self.seats if seat not in continued), *spare]
        for k, row in enumerate(grown):
            if row.source in continued[:k]:
                row.seat = free.pop()
        self.rows = grown
        return free

    def best(self) -> Row:
        """The answer."""
        return max(self.ended or self.looped or self.rows, key=self._mean)

    def _mean(self, row: Row) -> float:
        return row.score / (len(row.tokens) - len(self.job.prefix) + 1)

    def _likely(self, ranking: Ranking) -> list[tuple[int, float]]:
        if self.width == 1:
            token = ranking.draw(self.temperature, self._random)
            return [(token, ranking.logprob(token))]
        return [(t, p) for t, p in ranking.best(self.width + 1) if p > IMPOSSIBLE]

    def _ends(self, row: Row, token: int) -> bool:
        job, n = self.job, len(row.tokens)
        if token == self.vocabulary.eot or n >= self.limit:
            return True
        return job.only_word and (self.vocabulary.begins_word(token) or n >= len(job.prefix) + LONGEST_WORD)
