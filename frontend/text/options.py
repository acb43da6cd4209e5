"""What a client may ask of the text, and how it is parsed from a query string or JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from frontend.errors import InvalidConfig
from frontend.text import dictation, fillers, numbers, profanity, redact, smart
from frontend.text.words import bare

MOST_REPLACE, MOST_SEARCH, LONGEST = 200, 50, 200
"""Rules and phrases of one stream (Deepgram's limits), and characters of one."""

REDACT_NAMES = {
    "true": "numbers", "credit_card": "pci", "email_address": "email", "phone_number": "phone",
} | {kind: kind for kind in redact.KINDS}  # fmt: skip
"""Deepgram's names for what `KINDS` says."""

LOW_CONFIDENCE = ("mark", "drop")


@dataclass(frozen=True)
class TextOptions:
    """All steps are off by default: words stay as they were recognised."""

    punctuate: bool = True
    """False: words in lower case without punctuation. `smart_format` and `dictation` imply true."""
    numerals: bool = False
    smart_format: bool = False
    dictation: bool = False
    filler_words: bool = True
    """False: hesitations are left out."""
    profanity_filter: bool = False
    redact: frozenset[str] = frozenset()
    replace: tuple[tuple[str, str], ...] = ()
    search: tuple[str, ...] = ()
    min_confidence: float | None = None
    low_confidence: Literal["mark", "drop"] = "mark"


DEEPGRAM = TextOptions(punctuate=False, filler_words=False)
"""What Deepgram does when nothing is asked for."""


def base_language(language: str) -> str:
    """`en` of `en-US`."""
    return language.replace("_", "-").split("-")[0].lower()


def not_in_effect(options: TextOptions, language: str) -> list[str]:
    """Options given that do nothing in a language, or less than in English. `redact` is refused instead."""
    code = base_language(language)
    covered = {
        "numerals": numbers.LANGUAGES,
        "smart_format": smart.LANGUAGES,
        "dictation": dictation.LANGUAGES,
        "profanity_filter": profanity.PROFANE,
    }
    names = [name for name, languages in covered.items() if getattr(options, name) and code not in languages]
    return names + (["filler_words"] if not options.filler_words and code not in fillers.FILLERS else [])


def from_query(pairs: Mapping[str, Sequence[str]], defaults: TextOptions) -> TextOptions:
    """Options of a query string, over the defaults; other keys of it are not looked at.

    Lists are repeated keys; `redact` also takes commas. Raises `InvalidConfig`.
    """
    return updated(defaults, {name: _of_query(name, pairs[name]) for name in NAMES if pairs.get(name)})


def _of_query(name: str, values: Sequence[str]) -> Any:
    if name == "redact":
        return [kind for value in values for kind in value.split(",")]
    return list(values) if name in {"replace", "search"} else values[-1]


def updated(options: TextOptions, changes: Mapping[str, Any]) -> TextOptions:
    """The options with changes from JSON or a query string: booleans or "true" and "false", lists or single values, rules of
    `replace` as "find:replacement" or [find, replacement].

    Raises `InvalidConfig`, naming what is known.
    """
    unknown = [name for name in changes if name not in PARSERS]
    if unknown:
        raise InvalidConfig(f"there is no text option {unknown[0][:40]!r}; there is {', '.join(NAMES)}")
    return replace(options, **{name: PARSERS[name](name, value) for name, value in changes.items()})


def _flag(name: str, value: Any) -> bool:
    known = {"true": True, "false": False}
    found = value if isinstance(value, bool) else known.get(str(value).strip().lower())
    if found is None:
        raise InvalidConfig(f"{name}={str(value)[:40]!r} is neither true nor false")
    return found


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _redact(name: str, value: Any) -> frozenset[str]:
    found: set[str] = set()
    for kind in _list(value):
        text = str(kind).strip().lower()
        if text not in REDACT_NAMES and text not in {"false", "none", ""}:
            # Never ignored: whoever asks for it must not believe that it happens.
            raise InvalidConfig(f"{name}={text[:40]!r} cannot be redacted; there is {', '.join((*redact.KINDS, 'true'))}")
        found |= {REDACT_NAMES[text]} if text in REDACT_NAMES else set()
    return frozenset(found)


def _phrase(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise InvalidConfig(f"{name}: a phrase is a text of up to {LONGEST} characters")
    return " ".join(value.split())


def _replace(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    rules = _list(value)
    if len(rules) > MOST_REPLACE:
        raise InvalidConfig(f"{name}: {len(rules)} rules; up to {MOST_REPLACE} are taken")
    out: list[tuple[str, str]] = []
    for rule in rules:
        find, new = rule if isinstance(rule, list | tuple) and len(rule) == 2 else str(rule).partition(":")[::2]
        find, new = _phrase(name, find), _phrase(name, new)
        if not any(map(bare, find.split())):
            raise InvalidConfig(
                f"{name}={str(rule)[:40]!r} has nothing to find; write find:replacement, or find alone to delete"
            )
        out.append((find, new))
    return tuple(out)


def _search(name: str, value: Any) -> tuple[str, ...]:
    phrases = [_phrase(name, v) for v in _list(value)]
    for phrase in phrases:
        if not any(c.isalnum() for c in phrase):
            raise InvalidConfig(f"{name}={phrase[:40]!r} has no letter or digit to look for")
    if len(phrases) > MOST_SEARCH:
        raise InvalidConfig(f"{name}: {len(phrases)} phrases; up to {MOST_SEARCH} are taken")
    return tuple(dict.fromkeys(phrases))


def _confidence(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0.0 <= number <= 1.0:
        raise InvalidConfig(f"{name}={str(value)[:40]!r} is not a number from 0 to 1")
    return number


def _low(name: str, value: Any) -> str:
    if value not in LOW_CONFIDENCE:
        raise InvalidConfig(f"{name}={str(value)[:40]!r}; there is {', '.join(LOW_CONFIDENCE)}")
    return value


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "punctuate": _flag,
    "numerals": _flag,
    "smart_format": _flag,
    "dictation": _flag,
    "filler_words": _flag,
    "profanity_filter": _flag,
    "redact": _redact,
    "replace": _replace,
    "search": _search,
    "min_confidence": _confidence,
    "low_confidence": _low,
}
NAMES = tuple(f.name for f in fields(TextOptions))
