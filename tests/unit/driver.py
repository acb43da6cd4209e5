"""Drives a `SessionCore` as the shell does, with scripted speech probabilities and answers when the test says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frontend.speech.events import (
    Effect,
    Emit,
    Event,
    Final,
    Finished,
    Hypothesis,
    Partial,
    RunAsr,
    RunVad,
    SpeechEnded,
    SpeechStarted,
    Word,
)
from frontend.speech.session import SessionCore
from frontend.speech.settings import SessionSettings
from frontend.speech.vad_gate import FRAME

Answer = Callable[[RunAsr], Hypothesis | None]


PIECE = 3_000
"""Samples of a word that `window_as_text` hears."""


def window_as_text(request: RunAsr) -> Hypothesis:
    """The words name the pieces of the window that they fill, so that events tell what was decoded; a prefix of n tokens
    stands for the first n pieces."""
    edges = [request.start, *range(request.start + PIECE, request.end - PIECE // 2, PIECE), request.end]
    spans = list(itertools.pairwise(edges))
    words = tuple(Word(f" {a}-{b}", a - request.start, b - request.start, 0.5) for a, b in spans)
    n = len(words)
    return Hypothesis("".join(w.text for w in words), tuple(range(n)), (-0.1,) * n, words, (1,) * n)


def speech(*runs: tuple[float, int]) -> list[float]:
    """Probabilities from (probability, number of frames)."""
    return [p for p, n in runs for _ in range(n)]


@dataclass(frozen=True)
class Asked:
    """An engine request, what had been received when it was made, and up to where audio had been given up before."""

    request: RunVad | RunAsr
    received: int
    given_up: int


class Driver:
    """`at_once`: every engine request is answered before the next input; otherwise `answer_vad` and `answer_asr` do it.

    Frames beyond the script are silence.
    """

    def __init__(
        self,
        probabilities: Sequence[float],
        settings: SessionSettings | None = None,
        *,
        at_once: bool = True,
        answer: Answer = window_as_text,
    ) -> None:
        self.core = SessionCore(settings or SessionSettings())
        self.probabilities, self.at_once, self.answer = probabilities, at_once, answer
        self.events: list[Event] = []
        self.asked: list[Asked] = []
        self.vad: RunVad | None = None
        self.asr: RunAsr | None = None
        self.given_up = 0

    # --- inputs ---------------------------------------------------------------------------------------------------

    def audio(self, n_samples: int) -> None:
        self._carry_out(self.core.audio(n_samples))

    def frames(self, n: int) -> None:
        """Whole frames, one message each."""
        for _ in range(n):
            self.audio(FRAME)

    def all_audio(self) -> None:
        """As much as is scripted."""
        self.frames(len(self.probabilities) - self.core.received // FRAME)

    def finalize(self) -> None:
        self._carry_out(self.core.finalize())

    def close(self) -> None:
        """And answers whatever is asked until nothing is."""
        self._carry_out(self.core.close())
        self.settle()

    # --- answers --------------------------------------------------------------------------------------------------

    def answer_vad(self) -> None:
        if self.vad is None:
            return
        asked, self.vad = self.vad, None
        first, last = asked.start // FRAME, asked.end // FRAME
        heard = [self.probabilities[i] if i < len(self.probabilities) else 0.0 for i in range(first, last)]
        self._carry_out(self.core.vad_result(heard))

    def answer_asr(self) -> None:
        if self.asr is None:
            return
        asked, self.asr = self.asr, None
        self._carry_out(self.core.asr_result(self.answer(asked)))

    def settle(self) -> None:
        while self.vad or self.asr:
            self.answer_vad()
            self.answer_asr()

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case RunVad():
                    assert self.vad is None, "two VAD requests under way"
                    self.vad = effect
                    self.asked.append(Asked(effect, self.core.received, self.given_up))
                case RunAsr():
                    assert self.asr is None, "two decodes under way"
                    self.asr = effect
                    self.asked.append(Asked(effect, self.core.received, self.given_up))
                case Emit(event):
                    self.events.append(event)
        # The shell forgets audio here, while what was just asked for has still to be read.
        self.given_up = max(self.given_up, self.core.needed_from)
        for under_way in (self.vad, self.asr):
            assert under_way is None or self.core.needed_from <= under_way.start, f"{under_way} was given up"
        if self.at_once:
            self.settle()

    # --- what came of it ------------------------------------------------------------------------------------------

    @property
    def finals(self) -> list[Final]:
        return [e for e in self.events if isinstance(e, Final)]

    @property
    def partials(self) -> list[Partial]:
        return [e for e in self.events if isinstance(e, Partial)]

    @property
    def windows(self) -> list[tuple[int, int]]:
        """What was told as final and held audio, as (start, end)."""
        return [(f.start, f.end) for f in self.finals if f.end != f.start]

    @property
    def turns(self) -> list[SpeechStarted | SpeechEnded]:
        return [e for e in self.events if isinstance(e, SpeechStarted | SpeechEnded)]

    @property
    def decodes(self) -> list[RunAsr]:
        return [a.request for a in self.asked if isinstance(a.request, RunAsr)]

    @property
    def n_finished(self) -> int:
        return sum(isinstance(e, Finished) for e in self.events)
