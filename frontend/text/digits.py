"""Runs of digits in recognised words, however they are written or said: "4111-1111", "four one", "double five", "forty one
eleven". For redaction, so that a run is rather found too long than cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from text_to_num import find_numbers

from frontend.speech.events import Word
from frontend.text.fillers import is_filler
from frontend.text.numbers import CONNECTORS, FRACTIONS, Token, is_number
from frontend.text.words import bare

BREAK = "|"
"""A token that ends a spelled-out number; text2num reads over an empty one."""

ZEROS = {"oh", "o"}
REPEATS = {"double": 1, "triple": 2}
SEPARATORS = {
    "en": {"dash", "hyphen", "space", "minus", "dot", "plus", "slash", "then"},
    "es": {"guion", "guión", "espacio"},
    "fr": {"tiret", "espace"},
    "de": {"strich", "bindestrich"},
    "it": {"trattino", "spazio"},
}
"""Said between groups of digits; connectors and hesitations are too."""


@dataclass(frozen=True)
class Part:
    """Word `index` says `digits`; `ordinal` as in "first"."""

    index: int
    digits: str
    ordinal: bool = False


@dataclass(frozen=True)
class Run:
    """Words [start, end) say these digits; words between the parts belong to the run."""

    parts: tuple[Part, ...]

    @property
    def start(self) -> int:
        return self.parts[0].index

    @property
    def end(self) -> int:
        return self.parts[-1].index + 1

    @property
    def digits(self) -> str:
        return "".join(p.digits for p in self.parts)


def written(text: str) -> str:
    """The digits in a text, of any script, as 0-9."""
    return "".join(str(unicodedata.digit(c)) for c in text if c.isdigit())


def between(low: str, language: str) -> bool:
    """Whether a word may stand inside a run without being part of a number."""
    return not low or low in CONNECTORS[language] or low in SEPARATORS.get(language, ()) or is_filler(low, language)


def may_join(a: str, b: str | None, language: str) -> bool:
    return _in_run(bare(a), language) and (b is None or _in_run(bare(b), language))


def _in_run(low: str, language: str) -> bool:
    if between(low, language) or low in FRACTIONS or (language == "en" and low in REPEATS):
        return True
    return any(is_number(piece, language) for piece in _pieces(low))


def _pieces(low: str) -> list[str]:
    if low.isalpha():
        return [low]
    return [p for p in re.split(r"[-‐‑–—/,.:]+", low) if p]


def _spoken(lows: Sequence[str], language: str) -> dict[int, tuple[str, bool]]:
    """Digits by the word that begins a spelled-out number; the other words of it say none."""
    tokens: list[Token] = []
    places: list[int] = []
    for i, low in enumerate(lows):
        if any(c.isdigit() for c in low):
            tokens.append(Token(BREAK))
            places.append(i)
            continue
        if language == "en" and low in REPEATS and i + 1 < len(lows):
            tokens += [Token(lows[i + 1], excluded=not _single(lows[i + 1]))] * REPEATS[low]
            places += [i] * REPEATS[low]
            continue
        for piece in _pieces(low) or [BREAK]:
            tokens.append(Token(piece))
            places.append(i)
    out: dict[int, tuple[str, bool]] = {}
    for o in find_numbers(tokens, language, 0.0):
        said = written(o.text)
        covered = list(dict.fromkeys(places[o.start : o.end]))
        # A number of several words is spread over them, so that every one of its words counts as part of the run.
        for k, i in enumerate(covered):
            before, ordinal = out.get(i, ("", True))
            out[i] = (before + (said if not k else ""), ordinal and o.is_ordinal)
    return out


def _single(low: str) -> bool:
    found = find_numbers([Token(low)], "en", 0.0)
    return len(found) == 1 and len(found[0].text) == 1


def runs(words: Sequence[Word], language: str, continued: bool = False) -> list[Run]:
    """Longest runs, in order; punctuation, pauses, hesitations and "dash" do not end one. `continued`: after a number."""
    lows = [bare(w.text) for w in words]
    spoken = _spoken(lows, language)
    parts: list[Part] = []
    for i, low in enumerate(lows):
        if any(c.isdigit() for c in low):
            parts.append(Part(i, written(low)))
        elif i in spoken:
            parts.append(Part(i, *spoken[i]))
        elif language == "en" and low in ZEROS and _beside(lows, i, continued):
            parts.append(Part(i, "0"))
    out: list[list[Part]] = []
    for part in parts:
        gap = range(out[-1][-1].index + 1, part.index) if out else range(0)
        if out and all(between(lows[i], language) for i in gap):
            out[-1].append(part)
        else:
            out.append([part])
    return [Run(tuple(r)) for r in out if any(p.digits for p in r)]


def _beside(lows: Sequence[str], at: int, continued: bool) -> bool:
    """An "oh" is a zero beside a number, whatever may stand between."""
    for step in (-1, 1):
        i = at + step
        while 0 <= i < len(lows) and between(lows[i], "en"):
            i += step
        if is_number(lows[i], "en") if 0 <= i < len(lows) else continued and i < 0:
            return True
    return False


def split_runs(run: Run, words: Sequence[Word], language: str) -> list[Run]:
    """The run, parted at words like "and": what is left is one number or sequence."""
    out: list[list[Part]] = []
    for part in run.parts:
        gap = words[out[-1][-1].index + 1 : part.index] if out else ()
        if out and not any(bare(w.text) in CONNECTORS[language] for w in gap):
            out[-1].append(part)
        else:
            out.append([part])
    return [Run(tuple(r)) for r in out]


def luhn(digits: str) -> bool:
    """The check digit of card numbers (ISO/IEC 7812-1)."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
