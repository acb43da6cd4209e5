"""Hesitation words, per language. Only sounds that carry no meaning: "uh-huh" and "mhmm" answer a question and stay, as in
Deepgram's filler_words=false."""

from __future__ import annotations

from collections.abc import Sequence

from frontend.speech.events import Word
from frontend.text.words import bare, without

FILLERS: dict[str, frozenset[str]] = {
    "en": frozenset({"uh", "uhh", "um", "umm", "uhm", "erm"}),
    "es": frozenset({"eh", "ehm", "em", "mmm"}),
    "fr": frozenset({"euh", "heu"}),
    "de": frozenset({"äh", "ähm", "öh", "öhm"}),
    "it": frozenset({"ehm", "uhm"}),
    "pt": frozenset({"hum", "ahn"}),
    "nl": frozenset({"eh", "ehm", "uh", "uhm"}),
}


def is_filler(low: str, language: str) -> bool:
    """Whether a bare word is one."""
    return low in FILLERS.get(language, ())


def may_join(a: str, b: str | None, language: str) -> bool:
    """A filler hands its full stop to the word before it."""
    return b is None or is_filler(bare(b), language)


def without_fillers(words: Sequence[Word], language: str) -> list[Word]:
    fillers = [i for i, word in enumerate(words) if is_filler(bare(word.text), language)]
    return without(words, fillers) if fillers else list(words)
