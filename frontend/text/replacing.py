"""Find and replace of phrases, over whole words and without regard to case, as in Deepgram's `replace`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from frontend.speech.events import Word
from frontend.text.words import bare, rewritten, split, without


class Replacer:
    """`rules` are (find, replacement); an empty replacement deletes. The longest find wins; of finds that differ only in
    case, the one written as the words are, else the first."""

    def __init__(self, rules: Sequence[tuple[str, str]]) -> None:
        self._rules: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        self._pairs: set[tuple[str, str]] = set()
        self._deleted: set[str] = set()
        for find, replacement in rules:
            key = tuple(filter(None, map(bare, find.split())))
            if not key:
                continue
            self._rules.setdefault(key, []).append((find, replacement))
            self._pairs.update(itertools.pairwise(key))
            if not replacement.strip():
                self._deleted.add(key[0])
        self._lengths = sorted({len(key) for key in self._rules}, reverse=True)

    def may_join(self, a: str, b: str | None) -> bool:
        """A phrase may go on from `a` to `b`, or `b` be deleted and hand its full stop to `a`."""
        if b is None:
            return bool(self._deleted) or any(bare(a) == first for first, _ in self._pairs)
        return bare(b) in self._deleted or (bare(a), bare(b)) in self._pairs

    def __call__(self, words: Sequence[Word]) -> list[Word]:
        """Times: one word for one keeps them; otherwise their span is divided evenly. Marks around the found words stay."""
        lows = [bare(w.text) for w in words]
        out: list[Word] = []
        dropped: list[int] = []
        at = 0
        while at < len(words):
            length = next((n for n in self._lengths if tuple(lows[at : at + n]) in self._rules), 0)
            if not length:
                out.append(words[at])
                at += 1
                continue
            found = words[at : at + length]
            replacement = self._replacement(tuple(lows[at : at + length]), found).split()
            if replacement:
                out += _spread(found, replacement)
            else:
                dropped += range(len(out), len(out) + length)
                out += found
            at += length
        return without(out, dropped) if dropped else out

    def _replacement(self, key: tuple[str, ...], found: Sequence[Word]) -> str:
        rules = self._rules[key]
        written = " ".join(split(w.text)[1] for w in found)
        return next((new for find, new in rules if find == written), rules[0][1])


def _spread(found: Sequence[Word], texts: Sequence[str]) -> list[Word]:
    start, end = found[0].start, max(w.end for w in found)
    confidence = min(w.confidence for w in found)
    edges = [start + (end - start) * i // len(texts) for i in range(len(texts) + 1)]
    marked = list(texts)
    marked[0] = split(found[0].text)[0] + marked[0]
    marked[-1] += split(found[-1].text)[2]
    return [
        replace(rewritten(found[0], text), start=a, end=b, confidence=confidence)
        for text, (a, b) in zip(marked, itertools.pairwise(edges), strict=True)
    ]
