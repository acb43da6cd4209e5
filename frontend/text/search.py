"""Where phrases were said, by likeness of spelling and of sound, as in Deepgram's `search`. `rapidfuzz` (MIT) compares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from frontend.speech.events import Word
from frontend.text.words import bare

LEAST = 0.6
"""Hits less alike than this are not told: at 0.5 words of four letters already meet by chance."""

ALIKE = 0.99
"""Confidence of what sounds the same and is spelled differently."""

SOUNDS = {
    "tch": "ch", "sch": "sh", "ph": "f", "gh": "g", "ck": "k", "qu": "kw", "x": "ks", "wh": "w", "kn": "n",
    "ce": "se", "ci": "si", "cy": "si", "c": "k", "z": "s", "y": "i", "ie": "i", "ee": "i", "ea": "i",
    "oo": "u", "ou": "u", "ai": "e", "ei": "e",
}  # fmt: skip
"""English spellings of one sound; coarse, since it only lets a likely hit pass that its spelling would hide."""

SPELLING = re.compile("|".join([*(s for s in SOUNDS if s != "c"), "c(?!h)"]))
DOUBLED = re.compile(r"(.)\1+")

Place = tuple[int, int]


@dataclass(frozen=True)
class Hit:
    """`start` and `end` in samples; `snippet` is what was recognised there; `confidence` 1.0 for the phrase itself."""

    confidence: float
    start: int
    end: int
    snippet: str


@dataclass(frozen=True)
class Found:
    query: str
    hits: tuple[Hit, ...]
    """The likeliest first; hits do not overlap."""


def sounded(letters: str) -> str:
    """A spelling for the sound; equal letters in a row count once."""
    return DOUBLED.sub(r"\1", SPELLING.sub(lambda m: SOUNDS[m[0]], letters))


class Searcher:
    def __init__(self, queries: Sequence[str]) -> None:
        self._queries: list[tuple[str, int, str, str]] = []
        for query in queries:
            parts = ["".join(filter(str.isalnum, bare(part))) for part in query.split()]
            self._queries.append((query, len(parts), "".join(parts), "".join(map(sounded, parts))))

    def __call__(self, words: Sequence[Word]) -> tuple[Found, ...]:
        """Looks at runs of as many words as the phrase has, one fewer and one more."""
        spelled = ["".join(filter(str.isalnum, bare(w.text))) for w in words]
        heard = [sounded(letters) for letters in spelled]
        runs: dict[int, tuple[list[Place], list[str], list[str]]] = {}
        out: list[Found] = []
        for query, length, letters, sound in self._queries:
            if length not in runs:
                places = [(a, a + n) for n in range(max(1, length - 1), length + 2) for a in range(len(words) - n + 1)]
                runs[length] = places, _joined(spelled, places), _joined(heard, places)
            places, letter_runs, sound_runs = runs[length]
            likeness: dict[int, float] = {}
            for wanted, texts in ((letters, letter_runs), (sound, sound_runs)):
                for text, value, i in process.extract(
                    wanted, texts, scorer=Levenshtein.normalized_similarity, score_cutoff=LEAST, limit=None
                ):
                    same = texts is letter_runs and text == letters
                    likeness[i] = max(likeness.get(i, 0.0), 1.0 if same else min(value, ALIKE))
            out.append(Found(query, _best(words, places, likeness)))
        return tuple(out)


def _joined(words: Sequence[str], places: Sequence[Place]) -> list[str]:
    return ["".join(words[a:b]) for a, b in places]


def _best(words: Sequence[Word], places: Sequence[tuple[int, int]], likeness: dict[int, float]) -> tuple[Hit, ...]:
    taken: set[int] = set()
    hits: list[Hit] = []
    for i in sorted(likeness, key=lambda i: (-likeness[i], places[i][1] - places[i][0], places[i][0])):
        a, b = places[i]
        if taken.isdisjoint(range(a, b)):
            taken.update(range(a, b))
            snippet = " ".join(w.text for w in words[a:b])
            hits.append(Hit(round(likeness[i], 4), words[a].start, max(w.end for w in words[a:b]), snippet))
    return tuple(hits)
