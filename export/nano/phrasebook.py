"""Sentences from a phrase book: templates whose slots are filled at random, numbers in words.

A book is TOML: `[classes]` of words or phrases, which may have slots themselves, and `[templates]` with their weights. A
slot is `{class}`, or a number: `{int:2-99}`, `{ord:1-31}`, `{year:1800-2030}`, `{digits:3-8}` (so many, one by one).
Numbers are spelled by num2words, which knows the languages' rules.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from num2words import num2words

PHRASES = Path(__file__).parent / "phrases"
_SLOT = re.compile(r"\{([^{}]+)\}")


def _digits(low: int, high: int, r: random.Random, language: str) -> str:
    return " ".join(num2words(r.randint(0, 9), lang=language) for _ in range(r.randint(low, high)))


_NUMBERS: dict[str, Callable[[int, int, random.Random, str], str]] = {
    "int": lambda low, high, r, language: num2words(r.randint(low, high), lang=language),
    "ord": lambda low, high, r, language: num2words(r.randint(low, high), lang=language, to="ordinal"),
    "year": lambda low, high, r, language: num2words(r.randint(low, high), lang=language, to="year"),
    "digits": _digits,
}


class PhraseBook:
    """Endless sentences of `language`; the same seed gives the same sentences.

    Raises `ValueError` for a book with a slot that is neither a class nor a number.
    """

    def __init__(self, language: str, seed: int, folder: Path = PHRASES) -> None:
        book = tomllib.loads((folder / f"{language}.toml").read_text("utf-8"))
        self._language, self._r = language, random.Random(seed)
        self._classes: dict[str, list[str]] = book["classes"]
        self._templates: list[str] = list(book["templates"])
        self._weights: list[int] = list(book["templates"].values())
        slots = {s for t in [*self._templates, *(x for c in self._classes.values() for x in c)] for s in _SLOT.findall(t)}
        unknown = sorted(s for s in slots if s not in self._classes and s.partition(":")[0] not in _NUMBERS)
        if unknown:
            raise ValueError(f"{language}.toml has no class {', '.join(unknown)}")

    def _fill(self, text: str) -> str:
        while found := _SLOT.search(text):
            text = text[: found.start()] + self._value(found[1]) + text[found.end() :]
        return text

    def _value(self, slot: str) -> str:
        if slot in self._classes:
            return self._r.choice(self._classes[slot])
        kind, _, span = slot.partition(":")
        low, _, high = span.partition("-")
        return _NUMBERS[kind](int(low), int(high), self._r, self._language)

    def sentence(self) -> str:
        text = self._fill(self._r.choices(self._templates, self._weights)[0])
        first = next(i for i, c in enumerate(text) if c.isalpha())
        return text[:first] + text[first].upper() + text[first + 1 :]
