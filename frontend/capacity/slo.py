"""What a step must keep: the definition of streams at SLO. Pure.

A step meets the SLO if p95 of the final lag is below 500 ms, no stream had an error or was refused, and the word error rate
is no more than a margin above that of the same server with one stream alone. All streams of all steps speak the same
sentences, each beginning with another one, so the rates are of the same words. The margin is 0.5 points, or what two words
weigh in the step with one stream where that is more: less cannot be told from chance.
A step whose own client was late by more than 100 ms is void: it says nothing about the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

FINAL_LAG_MS = 500.0
WER_POINTS = 0.5
WORDS = 2
CLIENT_LAG_MS = 100.0
TRIES = 2
"""So many steps in a row that break the SLO, or that are void, end a ramp."""


@dataclass(frozen=True)
class Verdict:
    """`broken`: what the step did not keep. `void`: it cannot be told."""

    broken: tuple[str, ...] = ()
    void: str = ""

    @property
    def met(self) -> bool:
        return not self.broken and not self.void

    def __str__(self) -> str:
        return f"void: {self.void}" if self.void else "; ".join(self.broken) or "met"


class Step(Protocol):
    @property
    def final_lag_p95_ms(self) -> float | None: ...
    @property
    def wer(self) -> float | None:
        """None: nobody knows what was said."""
        ...

    @property
    def words(self) -> int: ...
    @property
    def n_errors(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def client_lag_ms(self) -> float: ...


def judge(step: Step, alone: Step) -> Verdict:
    """`alone`: the same server's step with one stream."""
    if step.client_lag_ms > CLIENT_LAG_MS:
        return Verdict(void=f"the client was {step.client_lag_ms:.0f} ms late")
    broken: list[str] = []
    if step.refused:
        broken.append(f"{step.refused} refused")
    if step.n_errors:
        broken.append(f"{step.n_errors} errors")
    if step.final_lag_p95_ms is None:
        broken.append("sentences without text")
    elif step.final_lag_p95_ms >= FINAL_LAG_MS:
        broken.append(f"final lag {step.final_lag_p95_ms:.0f} ms")
    margin = max(WER_POINTS, 100 * WORDS / max(1, alone.words))
    if step.wer is not None and alone.wer is not None and step.wer > alone.wer + margin:
        broken.append(f"WER {step.wer:.1f} % ({alone.wer:.1f} % alone, margin {margin:.1f})")
    return Verdict(tuple(broken))


def ends_ramp(verdicts: Sequence[Verdict], *, refused: bool) -> str:
    """Why a ramp ends after these steps; empty: it goes on. `refused`: the last step's server turned streams away."""
    if refused:
        return "the server refused streams"
    last = verdicts[-TRIES:]
    if len(last) == TRIES and all(v.void for v in last):
        return f"this client was late {TRIES} times in a row"
    if len(last) == TRIES and all(v.broken for v in last):
        return f"the SLO was broken {TRIES} times in a row"
    return ""


def streams_at_slo(steps: Sequence[tuple[int, Verdict]]) -> int:
    """The most streams of a step that met it; 0 for none."""
    return max((n for n, v in steps if v.met), default=0)
