"""Where phrases were said, by likeness of spelling and of sound, as in Deepgram's `search`. `rapidfuzz` (MIT) compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from frontend.speech.events import Word
from frontend.text.words import bare

LEAST = 0.6
"""Hits less alike than this are not told: at 0.5 words of four letters already meet by chance."""

SOUNDS = (
    ("tch", "ch"), ("sch", "sh"), ("ph", "f"), ("gh", "g"), ("ck", "k"), ("qu", "kw"), ("x", "ks"), ("wh", "w"), ("kn", "n"),
    ("ce", "se"), ("ci", "si"), ("cy", "sy"), ("c", "k"), ("z", "s"), ("y", "i"), ("ie", "i"), ("ee", "i"), ("ea", "i"),
    ("oo", "u"), ("ou", "u"), ("ai", "e"), ("ei", "e"),
)  # fmt: skip
"""English spellings of one sound; coarse, since it only lets a likely hit pass that its spelling would hide."""


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


def _letters(words: Sequence[str]) -> str:
    return "".join(c for word in words for c in word if c.isalnum())


def sounded(letters: str) -> str:
    """A spelling for the sound; equal letters in a row count once."""
    for written, sound in SOUNDS:
        letters = letters.replace(written, sound)
    return "".join(c for i, c in enumerate(letters) if not i or letters[i - 1] != c)


class Searcher:
    def __init__(self, queries: Sequence[str]) -> None:
        self._queries = [(query, len(query.split()), _letters(bare(query).split())) for query in queries]
        self._sounds = [sounded(letters) for _, _, letters in self._queries]

    def __call__(self, words: Sequence[Word]) -> tuple[Found, ...]:
        """Looks at runs of as many words as the phrase has, one fewer and one more."""
        lows = [bare(w.text) for w in words]
        spans: dict[int, tuple[list[tuple[int, int]], list[str], list[str]]] = {}
        out: list[Found] = []
        for (query, length, letters), sound in zip(self._queries, self._sounds, strict=True):
            if length not in spans:
                sizes = range(max(1, length - 1), length + 2)
                places = [(a, a + n) for n in sizes for a in range(len(words) - n + 1)]
                texts = [_letters(lows[a:b]) for a, b in places]
                spans[length] = places, texts, [sounded(t) for t in texts]
            places, texts, sounds = spans[length]
            likeness: dict[int, float] = {}
            for wanted, heard in ((letters, texts), (sound, sounds)):
                for _, value, i in process.extract(
                    wanted, heard, scorer=Levenshtein.normalized_similarity, score_cutoff=LEAST, limit=None
                ):
                    exact = 1.0 if texts[i] == letters else min(value, 0.99)
                    likeness[i] = max(likeness.get(i, 0.0), exact)
            out.append(Found(query, _best(words, places, likeness)))
        return tuple(out)


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
