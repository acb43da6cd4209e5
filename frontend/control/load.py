"""How far the engine is behind, as running sessions feel it, and whether one more would do. Pure: a clock is given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from frontend.control.partials import FORGETTING, PartialPlaces
from frontend.errors import EngineBusy

WINDOW_S = 5.0
"""Answers older than this say nothing about now."""
SHARE = 0.9
"""The lag is what this share of the answers stayed below."""
LATER = "try again in a few seconds, or on another server"


@dataclass
class EngineLoad:
    """Round trips of the requests that nobody may skip: finals and the VAD's. Partials give way, and do not count.

    What counts is the time beyond the quickest answer of the same kind: a large model is slow without being busy.
    """

    clock: Callable[[], float]
    limit_s: float
    """A new session is refused while the lag is above; running ones go on, and have the engine to themselves."""
    partial_wait_s: float = math.inf
    """As well while the first partial of an utterance waits longer for the engine: partials give way long before finals
    are late, so this tells sooner that it is full."""
    _answers: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]])
    _waiting: dict[int, tuple[float, str]] = field(default_factory=dict[int, tuple[float, str]])
    _quickest: dict[str, float] = field(default_factory=dict[str, float])
    _count: int = 0
    partials: PartialPlaces = field(init=False)

    def __post_init__(self) -> None:
        self.partials = PartialPlaces(self.clock)

    def asked(self, kind: str) -> int:
        """A request goes out; returns its ticket."""
        self._count += 1
        self._waiting[self._count] = self.clock(), kind
        return self._count

    def answered(self, ticket: int, computed_s: float = 0.0) -> None:
        """Also when it was given up. `computed_s`: how long the engine worked on it, where it says so."""
        now = self.clock()
        began, kind = self._waiting.pop(ticket)
        took = now - began
        quickest = min(took, FORGETTING * self._quickest.get(kind, took))
        self._quickest[kind] = quickest
        self._answers.append((now, took - quickest))
        self.partials.waited(kind, took - computed_s)

    def lag(self) -> float:
        """Seconds: what 9 of 10 answers of the last seconds took at most, or what the oldest unanswered request waits."""
        now = self.clock()
        while self._answers and self._answers[0][0] < now - WINDOW_S:
            self._answers.popleft()
        late = sorted(seconds for _, seconds in self._answers)
        usual = late[math.ceil(SHARE * len(late)) - 1] if late else 0.0
        oldest, kind = next(iter(self._waiting.values()), (now, ""))
        return max(usual, now - oldest - self._quickest.get(kind, 0.0))

    @property
    def behind(self) -> bool:
        """What nobody waits for should wait: running sessions feel the engine, though new ones are still taken."""
        return self.lag() > self.limit_s / 2 or self.partials.wait() > self.partial_wait_s / 2

    def admit(self) -> None:
        """Raises `EngineBusy` when a new session would find the engine behind."""
        if (lag := self.lag()) > self.limit_s:
            raise EngineBusy(f"the engine is {1000 * lag:.0f} ms behind; {LATER}")
        if (wait := self.partials.wait()) > self.partial_wait_s:
            raise EngineBusy(f"the engine is full, first partials wait {1000 * wait:.0f} ms; {LATER}")
