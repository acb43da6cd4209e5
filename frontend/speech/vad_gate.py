"""From frame probabilities to the start and end of speech: hysteresis, a minimum of speech, a hang of silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FRAME = 512
"""Samples of one Silero frame at 16 kHz (32 ms)."""


@dataclass(frozen=True)
class VadSettings:
    """`enter` and `leave` are speech probabilities (Silero's own defaults: 0.5 and 0.15 below); the rest is samples."""

    enter: float = 0.5
    leave: float = 0.35
    start_frames: int = 2
    """Frames above `enter` in a row before speech counts as begun: one alone is often a click."""
    endpoint: int = 8_000
    """Silence that ends an utterance."""
    late: int = FRAME
    """The last frame above `leave` ends 42 ms after speech does, in the median (5-95 %: -2 to 77; 180 synthesised ends,
    Silero v6): so long has the silence lasted by then."""
    pre_roll: int = 6_400
    """Audio before the first speech frame that belongs to the segment: soft onsets score low. 400 ms: with 300 half a point
    more of real speech is wrong, 500 are no better (docs/decisions.md)."""
    tail: int = 2_560
    """Audio after the last speech frame that belongs to the segment: soft endings score low too."""


@dataclass(frozen=True)
class Started:
    at: int


@dataclass(frozen=True)
class Ended:
    """`at` is the end of the last speech frame."""

    at: int


class VadGate:
    """Feed it the probability of each frame in order; it tells the changes."""

    def __init__(self, settings: VadSettings) -> None:
        self.settings = settings
        self.position = 0
        self.speaking = False
        self.last_speech = 0
        self._run = 0

    def feed(self, probabilities: Sequence[float]) -> Iterator[Started | Ended]:
        for p in probabilities:
            begin, self.position = self.position, self.position + FRAME
            if self.speaking:
                if p >= self.settings.leave:
                    self.last_speech = self.position
                elif self.position - self.last_speech >= self.settings.endpoint - self.settings.late:
                    self.speaking, self._run = False, 0
                    yield Ended(self.last_speech)
                continue
            self._run = self._run + 1 if p >= self.settings.enter else 0
            if self._run >= self.settings.start_frames:
                yield self._start(begin)

    def _start(self, begin: int) -> Started:
        self.speaking = True
        self.last_speech = self.position
        return Started(begin - (self._run - 1) * FRAME)

    def hint(self) -> Started | None:
        """At the end of a stream: speech that has just begun and is too short to count otherwise."""
        if self.speaking or self._run == 0:
            return None
        return self._start(self.position - FRAME)

    def interrupt(self) -> None:
        """Speech is over by request; what follows must begin anew."""
        self.speaking, self._run = False, 0
