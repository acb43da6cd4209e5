"""The seam between what is decoded (scheduler.py) and how it is computed: growing caches, or fixed slots on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from .scores import Ranking, Rule

Float = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ask:
    """What may come after the token at `position`, by which rule; the log-probability of `target` is wanted in any case."""

    position: int
    rule: Rule
    target: int = 0


@dataclass(eq=False)
class Seat:
    """A row's place in the running batch. `length`: cached positions; `frames` of its window."""

    length: int
    frames: int
    place: int = -1


@dataclass
class Seen:
    """A row after its first pass: what was asked, and the attention (heads, frames) where it was asked."""

    seat: Seat
    rankings: list[Ranking]
    attention: list[Float]
    encode_ms: float = 0.0


@dataclass(frozen=True)
class Turn:
    """A row's next token, and by which rule the one after it is chosen.

    The row goes on where the one at `source` was, a seat of as many positions and of the same window.
    """

    seat: Seat
    token: int
    rule: Rule
    source: Seat


class Batch(Protocol):
    """Rows of many streams that step together. Used by one thread."""

    @property
    def most_at_once(self) -> int:
        """Rows that one first pass takes, at the most."""
        ...

    def frames(self, window: Array) -> int:
        """Encoder frames of a window."""
        ...

    def prefill(self, windows: Sequence[Array], tokens: Integers, asks: Sequence[Sequence[Ask]]) -> list[Seen]:
        """First pass over `tokens` (B, n) of windows of one length; as many asks for each row."""
        ...

    def fork(self, seat: Seat) -> Seat:
        """Another seat with the caches of one that has not joined yet."""
        ...

    def join(self, seats: Sequence[Seat]) -> None:
        """Rows that were prefilled enter the batch."""
        ...

    def step(self, turns: Sequence[Turn]) -> list[tuple[Ranking, Float]]:
        """One token for each of the batch's living rows; attention (heads, frames)."""
        ...

    def leave(self, seat: Seat) -> None: ...

    def clear(self) -> None:
        """Forgets all rows, after a failure."""
        ...


def run(session: ort.InferenceSession, outputs: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
    """The session's outputs; onnxruntime's own type also admits sparse tensors and sequences."""
    return cast("list[Array]", session.run(outputs, feeds))
