"""How many partials are under way at once: as many as finals and voice activity bear. Pure: a clock is given.

A partial without a place waits in its session rather than in the engine: when its turn comes, it is asked for with all that
has been heard by then, and whatever nobody may skip finds a short queue. The number of places follows what is seen of the
engine, as TCP's window does: one more while all are taken and nothing is late, a share less as soon as something is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

PERIOD_S = 0.1
"""How often the number of places is thought over."""
LATE_S = 0.04
"""What finals and voice activity may wait for others, on average."""
FEWER = 0.7

FORGETTING = 1.001
"""With every answer, what counts as the quickest possible one grows by so much: models and machines change."""

Again = Callable[[], object]


@dataclass
class PartialPlaces:
    clock: Callable[[], float]
    limit: float = 16.0
    taken: int = 0
    _first: dict[Again, float] = field(default_factory=dict[Again, float])
    """Who waits for the first partial of an utterance, in order, and since when; they come before the others."""
    _others: dict[Again, float] = field(default_factory=dict[Again, float])
    _quickest: dict[str, float] = field(default_factory=dict[str, float])
    _late: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    _full: bool = False
    """Someone had to wait in this period."""
    _since: float = 0.0

    def take(self, again: Again, *, first: bool) -> bool:
        """True: the place is held until `leave`. False: `again` is called once, holding a place that is to be left as well.

        Who asks again meanwhile keeps its turn.
        """
        if self.taken < int(self.limit) and not (self._first or (self._others and not first)):
            self.taken += 1
            return True
        self._full = True
        (self._others if first else self._first).pop(again, None)
        (self._first if first else self._others).setdefault(again, self.clock())
        return False

    def wait(self) -> float:
        """Seconds that the first partial of an utterance has been waiting for its place; the longest of them."""
        since = next(iter(self._first.values()), None)
        return self.clock() - since if since is not None else 0.0

    def leave(self) -> None:
        """A place becomes free, and goes to who waits longest."""
        self.taken -= 1
        self._hand_out()

    def forget(self, again: Again) -> None:
        """It waits no more."""
        self._first.pop(again, None)
        self._others.pop(again, None)

    def waited(self, kind: str, seconds: float) -> None:
        """What an answer that nobody may skip took, without its own computation where that is known."""
        self._quickest[kind] = min(seconds, FORGETTING * self._quickest.get(kind, seconds))
        self._late.setdefault(kind, []).append(seconds - self._quickest[kind])
        now = self.clock()
        if now - self._since < PERIOD_S:
            return
        late = max(sum(found) / len(found) for found in self._late.values()) > LATE_S
        if late:
            self.limit = max(1.0, FEWER * self.limit)
        elif self._full:
            self.limit += 1
        self._full, self._since = bool(self._first or self._others), now
        self._late.clear()
        self._hand_out()

    def _hand_out(self) -> None:
        for waiting in (self._first, self._others):
            while waiting and self.taken < int(self.limit):
                again = next(iter(waiting))
                del waiting[again]
                self.taken += 1
                again()
