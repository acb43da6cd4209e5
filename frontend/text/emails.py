"""E-mail addresses to be redacted, said or written: broader than what is formatted, since a leak is worse than a gap."""

from __future__ import annotations

from collections.abc import Sequence

from frontend.text.addresses import PROVIDERS
from frontend.text.numbers import is_number

AT = {
    "en": {"at"}, "es": {"arroba"}, "fr": {"arobase", "arobas"}, "de": {"at", "ät"}, "it": {"chiocciola"}, "pt": {"arroba"},
    "nl": {"at", "apenstaartje"}, "da": {"snabel-a", "snabela"},
}  # fmt: skip
DOTS = {
    "en": {"dot", "point"}, "es": {"punto"}, "fr": {"point"}, "de": {"punkt"}, "it": {"punto"}, "pt": {"ponto"},
    "nl": {"punt"}, "da": {"punktum"},
}  # fmt: skip
DASHES = {
    "en": {"underscore", "dash", "hyphen", "minus", "plus"},
    "es": {"guion", "guión"},
    "fr": {"tiret", "underscore"},
    "de": {"unterstrich", "bindestrich", "minus"},
    "it": {"trattino", "underscore"},
}


def _joins(low: str, language: str) -> bool:
    return low in DOTS[language] or low in DASHES.get(language, ())


def may_join(a: str, b: str | None, language: str) -> bool:
    if b is None:
        return True
    at = AT[language]
    glued = any(low in at or "@" in low or _joins(low, language) for low in (a, b))
    return glued or (_piece(a, language) and _piece(b, language))


def _piece(low: str, language: str) -> bool:
    """A letter or a number, as addresses are spelled."""
    return len(low) <= 1 or is_number(low, language)


def spans(lows: Sequence[str], language: str) -> list[tuple[int, int]]:
    """[start, end) of the addresses, not overlapping."""
    out: list[tuple[int, int]] = []
    for i, low in enumerate(lows):
        if out and i < out[-1][1]:
            continue
        start, end = i, i + 1
        if low in AT[language] or low.startswith("@"):
            start = i - 1
        if (low in AT[language] or low.endswith("@")) and end < len(lows):
            end = _domain(lows, end, language, sure="@" in low)
        elif "@" in low:
            end = _forward(lows, i, language)
        if start >= 0 and (end > i + 1 or "@" in low):
            out.append((max(_backward(lows, start, language), out[-1][1] if out else 0), end))
    return out


def _domain(lows: Sequence[str], at: int, language: str, sure: bool) -> int:
    """The end of the domain from `at` on; `at` itself if there is none: something with a dot, or a mail provider."""
    end = _forward(lows, at, language)
    dotted = "." in lows[at] or any(low in DOTS[language] for low in lows[at:end])
    return end if sure or dotted or lows[at] in PROVIDERS else at


def _forward(lows: Sequence[str], at: int, language: str) -> int:
    end = at + 1
    while end < len(lows):
        if _joins(lows[end], language) and end + 1 < len(lows):
            end += 2
        elif _piece(lows[end - 1], language) and _piece(lows[end], language):
            end += 1
        else:
            break
    return end


def _backward(lows: Sequence[str], at: int, language: str) -> int:
    while at > 0:
        if _joins(lows[at - 1], language) and at > 1:
            at -= 2
        elif _piece(lows[at], language) and _piece(lows[at - 1], language):
            at -= 1
        else:
            break
    return at
