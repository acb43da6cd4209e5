"""Utterances, sentences and paragraphs of a whole recording, as in Deepgram's pre-recorded results. Times in samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from frontend.audio.format import ENGINE_RATE
from frontend.speech.events import Word
from frontend.text.words import ends_sentence, split, transcript, word_set

ABBREVIATIONS = word_set(
    "mr mrs ms dr prof st vs etc e.g i.e no jr sr inc ltd co approx dept bzw z.b d.h ca nr usw sig dott"
)
"""Their full stop does not end a sentence unless nothing follows."""


@dataclass(frozen=True)
class Sentence:
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return transcript(self.words)

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def end(self) -> int:
        return max(w.end for w in self.words)


@dataclass(frozen=True)
class Paragraph:
    sentences: tuple[Sentence, ...]

    @property
    def num_words(self) -> int:
        return sum(len(s.words) for s in self.sentences)

    @property
    def start(self) -> int:
        return self.sentences[0].start

    @property
    def end(self) -> int:
        return max(s.end for s in self.sentences)


def _ends(word: Word) -> bool:
    _, core, trail = split(word.text)
    if "\n\n" in trail:
        return True
    low = core.lower()
    initial = len(core) == 1 and core.isalpha() and core.isupper() and core != "I"
    abbreviated = trail.startswith(".") and not trail.startswith("..") and (low in ABBREVIATIONS or initial or "." in low)
    return ends_sentence(trail) and not abbreviated


def utterances(words: Sequence[Word], gap_s: float = 0.8) -> list[tuple[Word, ...]]:
    """Split where nothing is said for `gap_s` (Deepgram's utt_split, default 0.8)."""
    out: list[list[Word]] = []
    for word in words:
        if not out or word.start - out[-1][-1].end >= gap_s * ENGINE_RATE:
            out.append([])
        out[-1].append(word)
    return [tuple(u) for u in out]


def sentences(words: Sequence[Word], gap_s: float = 2.0) -> list[Sentence]:
    """Split after final punctuation, and where nothing is said for `gap_s`, which is all there is without punctuation."""
    out: list[list[Word]] = []
    for word in words:
        if not out or _ends(out[-1][-1]) or word.start - out[-1][-1].end >= gap_s * ENGINE_RATE:
            out.append([])
        out[-1].append(word)
    return [Sentence(tuple(s)) for s in out]


def paragraphs(words: Sequence[Word], gap_s: float = 2.0, most_sentences: int = 5, most_words: int = 100) -> list[Paragraph]:
    """Sentences together until a silence of `gap_s`, a dictated paragraph, or a size that is still easy to read."""
    out: list[list[Sentence]] = []
    for sentence in sentences(words, gap_s):
        if not out or _closed(out[-1], sentence, gap_s, most_sentences, most_words):
            out.append([])
        out[-1].append(sentence)
    return [Paragraph(tuple(p)) for p in out]


def _closed(paragraph: Sequence[Sentence], following: Sentence, gap_s: float, most_sentences: int, most_words: int) -> bool:
    return (
        following.start - paragraph[-1].end >= gap_s * ENGINE_RATE
        or paragraph[-1].words[-1].text.endswith("\n\n")
        or len(paragraph) >= most_sentences
        or sum(len(s.words) for s in paragraph) + len(following.words) > most_words
    )
