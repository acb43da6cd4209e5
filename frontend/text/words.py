"""Words and their punctuation: splitting marks off, merging with times kept, joining to a transcript."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from frontend.speech.events import Word

MARKS = " \t\r\n.,;:!?…\"'“”‘’‚„`«»‹›¿¡()–—―-·。、，；：！？「」『』（）"
"""What may stand around a word without being part of it."""

SENTENCE_END = frozenset(".?!…。！？")
PLACEHOLDER = re.compile(r"\[[A-Z_]+(?:_\d+)?\]")
"""What redaction writes; it has no other casing."""


def word_set(text: str) -> frozenset[str]:
    """A set written as a text, which is how word lists are read and changed most easily."""
    return frozenset(text.split())


def split(text: str) -> tuple[str, str, str]:
    """Marks before, the word itself, marks after; joined they are `text`. A sign or a leading decimal point of a number
    belongs to the word; of marks alone the word is empty."""
    if text.isalnum():
        return "", text, ""
    core = text.strip(MARKS)
    if not core:
        return "", "", text
    at = len(text) - len(text.lstrip(MARKS))
    if at and text[at - 1] in "-." and core[0].isdigit():
        at, core = at - 1, text[at - 1] + core
    return text[:at], core, text[at + len(core) :]


def bare(text: str) -> str:
    """The word without punctuation and casing, as Deepgram's `word` beside `punctuated_word`; empty for marks alone."""
    core = split(text)[1]
    return core if core[:1] == "[" and PLACEHOLDER.fullmatch(core) else core.lower()


def ends_sentence(marks: str) -> bool:
    return not SENTENCE_END.isdisjoint(marks)


def capitalised(text: str) -> str:
    """With its first letter in upper case, if its first character that is no mark is a letter."""
    lead, core, trail = split(text)
    return lead + core[:1].upper() + core[1:] + trail


def rewritten(word: Word, text: str) -> Word:
    """The word with another text. Alternatives of what was heard, where a word has any, are dropped: they say what the new
    text may be there to hide."""
    more: dict[str, Any] = {"alternatives": ()} if hasattr(word, "alternatives") else {}
    return replace(word, text=text, **more)


def merged(words: Sequence[Word], text: str) -> Word:
    """One word in the place of several: first start, last end, the lowest confidence; what else a word has, of the first."""
    confidence = min(w.confidence for w in words)
    return replace(rewritten(words[0], text), end=max(w.end for w in words), confidence=confidence)


def remarked(words: Sequence[Word], core: str) -> Word:
    """`merged` into `core`, between the marks before the first and after the last word."""
    return merged(words, split(words[0].text)[0] + core + split(words[-1].text)[2])


def without(words: Sequence[Word], dropped: Iterable[int]) -> list[Word]:
    """The other words. A dropped word that ended a sentence ends it with the word before; one that began a sentence hands
    its capital to the word after."""
    gone = set(dropped)
    kept: list[Word] = []
    capital = False
    for i, word in enumerate(words):
        _, core, trail = split(word.text)
        if i not in gone:
            kept.append(replace(word, text=capitalised(word.text)) if capital else word)
            capital = False
            continue
        capital = capital or ((not kept or ends_sentence(split(kept[-1].text)[2])) and core[:1].isupper())
        if kept and ends_sentence(trail):
            before = kept[-1].text
            if not ends_sentence(split(before)[2]):
                kept[-1] = replace(kept[-1], text=before.rstrip(",;:–—- ") + trail)
    return kept


def transcript(words: Iterable[Word]) -> str:
    """The words as running text: spaces between them, none beside a line break of dictation."""
    return re.sub(r" *\n *", lambda m: m[0].replace(" ", ""), " ".join(w.text for w in words if w.text))
