"""Spoken e-mail addresses and web addresses: where they are in a list of words and how they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.text.words import word_set

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
DOMAIN = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")
TOP_LEVEL = word_set("com org net edu gov io ai co uk de fr es it eu nl pt ch au ca dev app info biz tv")
PROVIDERS = word_set("gmail yahoo outlook hotmail icloud proton protonmail aol gmx")
JOINERS = {"dot": ".", "underscore": "_", "dash": "-", "hyphen": "-", "plus": "+"}
CUES = frozenset({"email", "emails", "e-mail", "mail", "gmail", "contact", "write", "reach"})
NOT_NAMES = word_set(
    "me us him her them it you is are was were be look here there available online live out up in on that this shop buy"
    " visit the a an and or"
)
NOT_LABELS = frozenset({"the", "a", "an", "this", "that", "every", "and", "or", *JOINERS, "at", "slash"})
CUE_REACH = 6
"""Words before an address in which "email" and the like make a plain "X at Y dot com" one."""


@dataclass(frozen=True)
class Address:
    """Tokens [start, end) say `text`."""

    text: str
    start: int
    end: int


def _label(tokens: Sequence[str], at: int) -> tuple[str, int] | None:
    """A part of an address: a word, or letters and digits said one by one."""
    if at >= len(tokens) or tokens[at] in NOT_LABELS or not LABEL.fullmatch(tokens[at]):
        return None
    text, end = tokens[at], at + 1
    while end < len(tokens) and (
        (len(text) == end - at and len(tokens[end]) == 1 and tokens[end].isalnum()) or tokens[end].isdigit()
    ):
        text, end = text + tokens[end], end + 1
    return text, end


def _domain(tokens: Sequence[str], at: int) -> tuple[str, int] | None:
    if at < len(tokens) and DOMAIN.fullmatch(tokens[at]):
        return tokens[at], at + 1
    if "dot" not in tokens:
        return None
    part = _label(tokens, at)
    text = ""
    while part:
        text, at = text + part[0], part[1]
        if at >= len(tokens) or tokens[at] != "dot" or not (part := _label(tokens, at + 1)):
            break
        text += "."
    return (text, at) if "." in text and text.rsplit(".", 1)[1] in TOP_LEVEL else None


def _local(tokens: Sequence[str], at: int) -> tuple[str, int] | None:
    part = _label(tokens, at)
    if part is None:
        return None
    text, at = part
    while at < len(tokens) and tokens[at] in JOINERS and (part := _label(tokens, at + 1)):
        text, at = text + JOINERS[tokens[at]] + part[0], part[1]
    return text, at


def email(tokens: Sequence[str], at: int) -> Address | None:
    """An address from token `at` on. Tokens are bare words with numbers in digits. A plain "X at Y dot com" is one
    only after a word like "email", or at a mail provider; it is more often a place."""
    if "at" not in tokens:
        return None
    local = _local(tokens, at)
    if local is None or local[1] >= len(tokens) or tokens[local[1]] != "at":
        return None
    domain = _domain(tokens, local[1] + 1)
    if domain is None:
        return None
    plain = local[1] - at == 1
    if plain and tokens[at] in NOT_NAMES:
        return None
    cued = not CUES.isdisjoint(tokens[max(0, at - CUE_REACH) : at])
    if plain and not cued and domain[0].split(".")[0] not in PROVIDERS:
        return None
    return Address(f"{local[0]}@{domain[0]}", at, domain[1])


def url(tokens: Sequence[str], at: int) -> Address | None:
    """A web address from token `at` on: "(https colon slash slash) www dot example dot com (slash docs)"."""
    start, prefix = at, ""
    if tokens[at] in {"http", "https"} and list(tokens[at + 1 : at + 4]) == ["colon", "slash", "slash"]:
        prefix, at = tokens[at] + "://", at + 4
    domain = _domain(tokens, at)
    if domain is None:
        return None
    text, end = domain
    while end < len(tokens) and tokens[end] == "slash" and (part := _label(tokens, end + 1)):
        text, end = f"{text}/{part[0]}", part[1]
    return Address(prefix + text, start, end)
