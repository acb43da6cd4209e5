"""Spoken numbers in recognised words, found by `text2num` (MIT, in Rust; it works on tokens, so that spans map to times)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from text_to_num import find_numbers

from frontend.speech.events import Word
from frontend.text.words import remarked, split, word_set

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "nl", "da")
"""What text2num knows."""

CONNECTORS = {
    "en": {"and", "point", "oh", "o", "a"},
    "es": {"y", "coma", "punto"},
    "fr": {"et", "virgule", "point"},
    "de": {"und", "komma", "punkt"},
    "it": {"e", "virgola", "punto", "mila"},
    "pt": {"e", "vírgula", "ponto"},
    "nl": {"en", "komma"},
    "da": {"og", "komma"},
}
"""Words within numbers that are none by themselves."""

SCALES = {
    "en": {"hundred", "thousand", "million", "billion", "trillion"}
    | {"hundreds", "thousands", "millions", "billions", "trillions"},
    "es": {"millón", "millones"},
    "fr": {"million", "millions", "milliard", "milliards"},
    "de": {"million", "millionen", "milliarde", "milliarden"},
}
"""Stay words after digits ("21 million", "3.5 million") and alone ("millions of")."""

HOMOGRAPHS = {"it": {"sei"}, "fr": {"neuf"}, "de": {"acht"}}
"""Numbers that mean something else too (you are, new, heed): left alone unless other numbers stand beside them."""

UNITS = word_set(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen"
)
FRACTIONS = word_set(
    "second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirds fourths fifths sixths sevenths"
    " eighths ninths tenths"
)
"""English ordinals that are a unit of time or a part after a number below twenty: "one second", "two thirds"."""

CENTURIES = frozenset({"16", "17", "18", "19", "20"})


@dataclass(frozen=True)
class Number:
    """Words [start, end) say `text`. `lone`: one that is rather a pronoun, an article or a first; a caller knows."""

    text: str
    start: int
    end: int
    ordinal: bool = False
    lone: bool = False


class Token:
    """What text2num wants of a word."""

    __slots__ = ("_apart", "_excluded", "_text")

    def __init__(self, text: str, apart: bool = False, excluded: bool = False) -> None:
        self._text, self._apart, self._excluded = text, apart, excluded

    def text(self) -> str:
        return self._text

    def nt_separated(self, previous: Token) -> bool:
        del previous
        return self._apart

    def not_a_number_part(self) -> bool:
        return self._excluded


def is_number(core: str, language: str) -> bool:
    """Whether a word alone is a number, in digits or spelled out."""
    return any(c.isdigit() for c in core) or bool(find_numbers([Token(core)], language, 0.0))


def _tokens(parts: Sequence[tuple[str, str, str]], language: str) -> list[Token]:
    tokens: list[Token] = []
    before, apart = "", True
    for lead, core, trail in parts:
        low = core.lower()
        excluded = low in SCALES.get(language, ()) and before[-1:].isdigit()
        if language == "en":
            excluded = excluded or (low in FRACTIONS and before in UNITS)
            if low in {"oh", "o"}:
                low = "o" if not apart and not lead and is_number(before, "en") else "oh"
        tokens.append(Token(low, apart or bool(lead), excluded))
        before, apart = low, bool(trail)
    return tokens


def spoken_numbers(words: Sequence[Word], language: str) -> list[Number]:
    """Spelled-out numbers, in order. Punctuation between words keeps numbers apart."""
    parts = [split(w.text) for w in words]
    tokens = _tokens(parts, language)
    found = [Number(o.text, o.start, o.end, o.is_ordinal) for o in find_numbers(tokens, language, 0.0)]
    if not found:
        return []
    if language == "en":
        found = _articles(_years(found, parts), parts)
    out: list[Number] = []
    for i, number in enumerate(found):
        follows = i > 0 and found[i - 1].end == number.start
        low = parts[number.start][1].lower()
        if (
            number.end - number.start == 1
            and low in SCALES.get(language, ())
            and not (follows and found[i - 1].text.isdigit())
        ):
            continue
        if number.text.isdigit() and number.text[0] == "0" and len(number.text) == number.end - number.start > 1:
            out += [Number(digit, number.start + k, number.start + k + 1) for k, digit in enumerate(number.text)]
        else:
            out.append(replace(number, lone=_rather_a_word(number, low, language)))
    return _read_together(out)


def _read_together(numbers: list[Number]) -> list[Number]:
    """Words that are rather none are numbers among others: "four one", "one one one", but not "the first one"."""
    out: list[Number] = []
    at = 0
    while at < len(numbers):
        end = at + 1
        while end < len(numbers) and numbers[end].start == numbers[end - 1].end:
            end += 1
        group = numbers[at:end]
        words_only = len(group) < 3 and all(n.lone for n in group)
        out += [replace(n, lone=words_only) for n in group]
        at = end
    return out


def _rather_a_word(number: Number, low: str, language: str) -> bool:
    if number.end - number.start > 1:
        return False
    digits = "".join(filter(str.isdigit, number.text))
    return digits == "1" or (number.ordinal and digits == "2") or low in HOMOGRAPHS.get(language, ())


def _years(found: list[Number], parts: Sequence[tuple[str, str, str]]) -> list[Number]:
    """English years in two halves: "nineteen eighty four", "twenty oh five"."""
    out: list[Number] = []
    for number in found:
        if out and _is_year(out[-1], number, parts):
            out[-1] = Number(out[-1].text + number.text, out[-1].start, number.end)
        else:
            out.append(number)
    return out


def _is_year(a: Number, b: Number, parts: Sequence[tuple[str, str, str]]) -> bool:
    return (
        a.text in CENTURIES
        and a.end - a.start == 1
        and a.end == b.start
        and len(b.text) == 2
        and b.text.isdigit()
        and not parts[a.end - 1][2]
        and not parts[b.start][0]
    )


def _articles(found: list[Number], parts: Sequence[tuple[str, str, str]]) -> list[Number]:
    """English "a hundred" is 100, with its article."""
    out: list[Number] = []
    for number in found:
        at = number.start - 1
        free = at >= 0 and (not out or out[-1].end <= at)
        if free and parts[at][1].lower() == "a" and not parts[at][2] and parts[at + 1][1].lower() in SCALES["en"]:
            number = replace(number, start=at)
        out.append(number)
    return out


def may_join(a: str, b: str | None, language: str) -> bool:
    """Whether words beside each other may belong to one number, or to numbers that are written differently together."""
    return _in_number(a, language) and (b is None or _in_number(b, language))


def _in_number(text: str, language: str) -> bool:
    core = split(text)[1].lower()
    return core in CONNECTORS[language] or core in FRACTIONS or is_number(core, language)


def numerals(words: Sequence[Word], language: str) -> list[Word]:
    """Spelled-out numbers as digits; digits said one by one stay one word each, as Deepgram's `numerals` has them."""
    out: list[Word] = []
    at = 0
    for number in spoken_numbers(words, language):
        if number.lone:
            continue
        out += words[at : number.start]
        out.append(remarked(words[number.start : number.end], number.text))
        at = number.end
    return [*out, *words[at:]]
