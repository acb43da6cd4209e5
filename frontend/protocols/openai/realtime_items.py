"""Items: which finals belong to which, and their text, which only ever grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from frontend.protocols.base import RATE, Body
from frontend.speech.events import Final, Partial, Word

SPACELESS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3000, 0x30FF), (0x3400, 0x9FFF), (0xFF00, 0xFFEF))
"""Code points of scripts that are written without spaces: Thai and Lao, Burmese, Khmer, kana, Han, full-width forms."""


@dataclass
class Item:
    """What is said in one turn. `text` has been told, all of it as deltas; so it is the transcript, whatever comes."""

    id: str
    since: int = 0
    """Segments that begin before this sample are not of this item."""
    on_request: bool = False
    """It is complete with the final that answers a commit, not with that of an utterance."""
    text: str = ""
    samples: int = 0
    """Of audio that was transcribed."""
    logprobs: list[Body] = field(default_factory=list[Body])
    _segment: int | None = None
    _n_told: int = 0

    def add(self, event: Partial | Final) -> tuple[str, list[Body]]:
        """What is new and settled, and its log probabilities, a word each; an empty text when nothing is."""
        final = isinstance(event, Final)
        if event.segment != self._segment:
            self._segment, self._n_told = event.segment, 0
        words = event.words if final else event.words[: event.n_stable]
        pieces = _spaced(event.text, words)
        if final and not words and not self._n_told:
            pieces = [event.text]
        new = pieces[self._n_told :]
        delta = "".join(new)
        if delta and self.text and not self._n_told and not _spaceless(self.text[-1], delta[0]):
            delta = f" {delta}"
        logprobs = [_logprob(piece, word) for piece, word in zip(new, words[self._n_told :], strict=False)]
        self._n_told = max(self._n_told, len(pieces))
        self.text += delta
        self.logprobs += logprobs
        if final:
            self.samples += event.end - event.start
        return delta, logprobs

    def usage(self) -> Body:
        return {"type": "duration", "seconds": round(self.samples / RATE, 3)}


def _spaced(text: str, words: Sequence[Word]) -> list[str]:
    """The words with what stands before each in the text: a space, or nothing in languages that write none."""
    pieces: list[str] = []
    at = 0
    for word in words:
        found = text.find(word.text, at)
        if found >= 0 and not text[at:found].strip():
            pieces.append(text[at:found] + word.text)
            at = found + len(word.text)
        else:
            pieces.append(f" {word.text}" if pieces else word.text)
    return pieces


def _spaceless(before: str, after: str) -> bool:
    return all(any(low <= ord(c) <= high for low, high in SPACELESS) for c in (before, after))


def _logprob(piece: str, word: Word) -> Body:
    """A word's confidence is the mean probability of its tokens; 1e-9 stands for none."""
    return {
        "token": piece,
        "logprob": round(math.log(min(1.0, max(word.confidence, 1e-9))), 4),
        "bytes": list(piece.encode(errors="replace")),
    }
