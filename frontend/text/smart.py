"""Readable forms of what is spoken in English: years, dates, times of day, money, per cent, phone numbers, runs of digits,
e-mail and web addresses. Few patterns, each only where it is all but certain; the rest is left as `numerals` has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.speech.events import Word
from frontend.text import addresses, numbers
from frontend.text.words import bare, merged, split, word_set

LANGUAGES = ("en",)

MONTHS = word_set("january february march april may june july august september october november december")
CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
"""Not pounds: they are more often a weight."""
CENTS = frozenset({"cent", "cents"})
SCALES = frozenset({"thousand", "million", "billion", "trillion"})
HALVES = frozenset({"am", "pm", "a", "p"})
GLUE = frozenset(
    {"dot", "at", "underscore", "dash", "hyphen", "plus", "slash", "colon", "http", "https", "percent", "per", "am", "pm"}
)
PHONE = re.compile(r"1?[2-9]\d{2}[2-9]\d{6}")
"""North American numbering plan; other countries group their numbers in too many ways to guess."""

DIGITS_TOGETHER = 3
"""Digits said one by one are written together from here on; two are more often two numbers."""


@dataclass(frozen=True)
class Item:
    """Words [start, end) that are one thing: `text` without the marks `lead` and `trail` around it."""

    text: str
    start: int
    end: int
    lead: str
    trail: str
    number: bool = False
    ordinal: bool = False
    lone: bool = False

    @property
    def low(self) -> str:
        return self.text.lower()

    @property
    def amount(self) -> bool:
        return self.number and not self.ordinal


Made = tuple[str, int] | None
"""What the items from one on become, and how many they are."""


def may_join(a: str, b: str | None) -> bool:
    if b is None:
        return True
    x, y = bare(a), bare(b)
    if x in addresses.JOINERS or y in addresses.JOINERS or not GLUE.isdisjoint((x, y)):
        return True
    return _part(x) and _part(y)


def _part(low: str) -> bool:
    return (
        low in CURRENCIES
        or low in CENTS
        or low in MONTHS
        or len(low) <= 1
        or low in numbers.CONNECTORS["en"]
        or low in numbers.FRACTIONS
        or numbers.is_number(low, "en")
    )


def formatted(words: Sequence[Word]) -> list[Word]:
    """Numbers in digits and the patterns above; a pattern becomes one word, with the marks around it."""
    items = _items(words)
    tokens = [item.low for item in items]
    out: list[Word] = []
    at = 0
    while at < len(items):
        item = items[at]
        made = _made(items, tokens, at)
        if made is None:
            source = words[item.start : item.end]
            text = item.lead + item.text + item.trail
            out += [merged(source, text)] if len(source) > 1 or text != source[0].text else source
            at += 1
            continue
        text, length = made
        last = items[at + length - 1]
        out.append(merged(words[item.start : last.end], item.lead + text + last.trail))
        at += length
    return out


def _items(words: Sequence[Word]) -> list[Item]:
    found = {n.start: n for n in numbers.spoken_numbers(words, "en")}
    parts = [split(w.text) for w in words]
    items: list[Item] = []
    at = 0
    while at < len(words):
        number = found.get(at)
        end = number.end if number else at + 1
        core = parts[at][1]
        if number:
            text = core if number.lone else number.text
            items.append(Item(text, at, end, parts[at][0], parts[end - 1][2], True, number.ordinal, number.lone))
        else:
            items.append(Item(core, at, end, parts[at][0], parts[at][2], core.isdecimal() and core.isascii()))
        at = end
    return items


def _made(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    patterns = NUMERIC if items[at].number else (_address, _half_of_day) if tokens[at] in HALVES else (_address,)
    for pattern in patterns:
        made = pattern(items, tokens, at)
        if made and not any(i.trail for i in items[at : at + made[1] - 1]):
            return made
    return None


def _value(item: Item) -> str:
    """The digits of a number; of a lone one its word was kept."""
    return "1" if item.lone and not item.text[0].isdigit() else item.text


def _address(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    found = addresses.email(tokens, at) or addresses.url(tokens, at)
    return (found.text, found.end - at) if found and found.end - at > 1 else None


def _half(tokens: Sequence[str], at: int) -> tuple[str, int] | None:
    """What is said as "pm", or as "p" and "m"."""
    if at < len(tokens) and tokens[at] in {"am", "pm"}:
        return tokens[at].upper(), 1
    if at + 1 < len(tokens) and tokens[at] in {"a", "p"} and tokens[at + 1] == "m":
        return tokens[at].upper() + "M", 2
    return None


def _hour(item: Item) -> bool:
    return item.amount and _value(item).isdecimal() and 1 <= int(_value(item)) <= 12


def _time(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    """Before "pm", "eight thirty seven" is 8:37; the "PM" stays a word of its own."""
    if not _hour(items[at]):
        return None
    rest = [_value(i) for i in items[at + 1 : at + 3]]
    if items[at].lone and not rest[:1]:
        return None
    if len(rest) == 2 and rest[0] in {"0", "o", "oh"} and re.fullmatch(r"[1-9]", rest[1]) and _half(tokens, at + 3):
        return f"{_value(items[at])}:0{rest[1]}", 3
    if rest and re.fullmatch(r"[0-5]\d", rest[0]) and items[at + 1].amount and _half(tokens, at + 2):
        return f"{_value(items[at])}:{rest[0]}", 2
    return (_value(items[at]), 1) if items[at].lone and _half(tokens, at + 1) else None


def _half_of_day(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    half = _half(tokens, at)
    before = items[at - 1] if at else None
    return half if half and before and before.amount and not before.trail else None


def _day(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    """Of "November second" the second: 2; the month stays a word. "may" and "march" are months only as names."""
    month = items[at - 1].text if at and not items[at - 1].trail else ""
    if month.lower() not in MONTHS or month in {"may", "march"} or not items[at].ordinal:
        return None
    digits = {"first": "1", "second": "2"}.get(tokens[at]) or "".join(filter(str.isdigit, items[at].text))
    return (digits, 1) if 1 <= int(digits) <= 31 else None


def _money(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    if not items[at].amount:
        return None
    amount, end, scale = _value(items[at]), at + 1, ""
    if tokens[end : end + 1] and tokens[end] in SCALES:
        scale, end = " " + tokens[end], end + 1
    if end >= len(tokens) or tokens[end] not in CURRENCIES or not re.fullmatch(r"\d+(\.\d+)?", amount):
        return None
    sign, end = CURRENCIES[tokens[end]], end + 1
    whole, _, part = amount.partition(".")
    cents = end + 1 if tokens[end : end + 1] == ["and"] else end
    if (
        not scale
        and not part
        and cents + 1 < len(items)
        and items[cents].amount
        and re.fullmatch(r"\d{1,2}", _value(items[cents]))
        and tokens[cents + 1] in CENTS
        and not any(i.trail for i in items[at : cents + 1])
    ):
        part, end = _value(items[cents]).zfill(2), cents + 2
    if part and not scale:
        part = part.ljust(2, "0")
    return f"{sign}{int(whole):,}{'.' if part else ''}{part}{scale}", end - at


def _percent(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    if not items[at].amount:
        return None
    if tokens[at + 1 : at + 2] == ["percent"]:
        return _value(items[at]) + "%", 2
    return (_value(items[at]) + "%", 3) if list(tokens[at + 1 : at + 3]) == ["per", "cent"] else None


def _digits(items: Sequence[Item], tokens: Sequence[str], at: int) -> Made:
    """A phone number, or digits said one by one."""
    sizes: list[int] = []
    for item in items[at:]:
        if not (item.amount and not item.lone and item.text.isdecimal()):
            break
        sizes.append(len(item.text))
        if item.trail:
            break
    text = "".join(i.text for i in items[at : at + len(sizes)])
    single = next((n for n, size in enumerate(sizes) if size > 1), len(sizes))
    grouped = sizes in ([3, 3, 4], [1, 3, 3, 4]) or single == len(sizes)
    if len(sizes) > 1 and grouped and PHONE.fullmatch(text):
        return "-".join(filter(None, (text[:-10], text[-10:-7], text[-7:-4], text[-4:]))), len(sizes)
    return ("".join(i.text for i in items[at : at + single]), single) if single >= DIGITS_TOGETHER else None


NUMERIC = (_address, _time, _day, _money, _percent, _digits)
"""Patterns that begin with a number, the surest first."""
