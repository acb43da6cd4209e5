"""Whisper's tokens: prompts, suppression, and words out of tokens."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from .scores import Rule

Float = npt.NDArray[np.float32]

# Written without spaces between words: a word is then one decodable character (openai/whisper tokenizer.py).
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})

AUTO = "auto"
"""The language is to be found."""
_TO_BE_FOUND = -1
FORBIDDEN = np.float32(-1e9)
"""Added to a logit: no probability is left, and 0 times its logarithm is still 0, as it is not for infinity."""


@dataclass(frozen=True)
class Word:
    """`text` carries its leading space and punctuation; tokens `first` to `last` (exclusive) of the hypothesis make it."""

    text: str
    first: int
    last: int


class Vocabulary:
    """Special ids by name, so that any checkpoint's own numbering works."""

    def __init__(self, tokenizer: Path | Tokenizer, generation: dict[str, Any], *, multilingual: bool) -> None:
        """`generation` is the checkpoint's `generation_config.json`."""
        self._tokenizer = Tokenizer.from_file(str(tokenizer)) if isinstance(tokenizer, Path) else tokenizer
        self.multilingual = multilingual
        self._tasks: dict[str, int] | None = generation.get("task_to_id")
        self.eot = self._id("<|endoftext|>")
        self.sot = self._id("<|startoftranscript|>")
        self.no_timestamps = self._id("<|notimestamps|>")
        self.no_speech = next(
            (i for t in ("<|nospeech|>", "<|nocaptions|>") if (i := self._tokenizer.token_to_id(t)) is not None), None
        )
        ids = set(self._tokenizer.get_vocab().values())
        self.size = max(ids) + 1
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, t in added.items() if t.special or (t.content.startswith("<|") and t.content.endswith("|>"))}
        self._is_text = np.zeros(self.size, bool)  # fine-tunes add words of theirs after the special tokens
        self._is_text[list(ids - special)] = True
        suppressed = ~self._is_text  # specials and timestamps: we decode plain text
        suppressed[[i for i in generation.get("suppress_tokens") or [] if 0 <= i < self.size]] = True
        suppressed[self.eot] = False
        self._suppressed = np.flatnonzero(suppressed)
        blank = self._tokenizer.encode(" ", add_special_tokens=False).ids[:1]  # Whisper's own rule
        self._begin = np.array(sorted({*(generation.get("begin_suppress_tokens", blank) or [])} - {self.eot}), np.int64)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no {token}; is it Whisper's?")
        return found

    def is_text(self, token: int) -> bool:
        """Whether a token stands for text, rather than for a language, a task, a time or nothing."""
        return 0 <= token < self.size and bool(self._is_text[token])

    @property
    def tasks(self) -> list[str]:
        """What the checkpoint says that it was trained for; without a word of its own, what it has tokens for."""
        known = [t for t in ("transcribe", "translate") if self._tokenizer.token_to_id(f"<|{t}|>") is not None]
        if not self.multilingual:
            return ["transcribe"]
        return [t for t in known if self._tasks is None or t in self._tasks]

    @property
    def languages(self) -> list[str]:
        """Codes between the start token and the task tokens: 99, or 100 with yue. `.en` models have those tokens too."""
        if not self.multilingual:
            return ["en"]
        last = self._tokenizer.token_to_id("<|translate|>") or self.sot + 1
        tokens = [self._tokenizer.id_to_token(i) for i in range(self.sot + 1, last)]
        return [t[2:-2] for t in tokens if t]

    @cached_property
    def language_ids(self) -> dict[str, int]:
        return {code: self._id(f"<|{code}|>") for code in self.languages}

    def prompt(self, language: str = "en", task: str = "transcribe", context: Sequence[int] = ()) -> list[int]:
        """What is forced before the text; `context` are the tokens of what was said before.

        Raises `ValueError` for a language or task the checkpoint does not have. `AUTO` leaves a place for the language.
        """
        before = [self._id("<|startofprev|>"), *context] if context else []
        if not self.multilingual:
            if task != "transcribe":
                raise ValueError("this checkpoint transcribes one language; it cannot translate")
            return [*before, self.sot, self.no_timestamps]
        if language == AUTO:
            code = _TO_BE_FOUND
        elif (code := self.language_ids.get(language)) is None:
            raise ValueError(f"language {language!r} is not among {', '.join(self.languages)}")
        return [*before, self.sot, code, self._id(f"<|{task}|>"), self.no_timestamps]

    def with_language(self, prompt: Sequence[int], language: str) -> list[int]:
        """A prompt made for `AUTO`, with the language that was found."""
        return [self.language_ids[language] if t == _TO_BE_FOUND else t for t in prompt]

    def begins_word(self, token: int) -> bool:
        """Whether a token starts with a space, as the first of a word does where words are spaced."""
        return self.is_text(token) and (self._tokenizer.id_to_token(token) or "").startswith(("Ġ", " "))  # Ġ is BPE's space

    @cached_property
    def _continuing(self) -> npt.NDArray[np.int64]:
        """Text tokens that go on with the word before them."""
        return np.array([t for t in np.flatnonzero(self._is_text) if not self.begins_word(int(t))], np.int64)

    def suppress(self, logits: Float, *, first: bool, new_word: bool = False) -> Float:
        """Sets what may not come next to -inf, in place; `logits` (vocab,). The first token may end the text at once.

        `new_word`: nothing that would change the word before, a comma included.
        """
        if new_word:
            logits[self._continuing] = -np.inf
        logits[self._suppressed[self._suppressed < len(logits)]] = -np.inf
        logits[self.size :] = -np.inf  # checkpoints pad their embedding
        if first:
            logits[self._begin[self._begin < len(logits)]] = -np.inf
        return logits

    def rules(self, size: int) -> Float:
        """What `suppress` forbids as numbers to add, for every `Rule`: float32 (rules, size), `size` that of the logits."""
        table = np.zeros((len(Rule), size), np.float32)
        self.suppress(table[Rule.TEXT], first=False)
        self.suppress(table[Rule.FIRST], first=True)
        self.suppress(table[Rule.NEW_WORD], first=False, new_word=True)
        if self.multilingual:
            table[Rule.LANGUAGE] = -np.inf
            table[Rule.LANGUAGE, list(self.language_ids.values())] = 0
        return np.where(np.isinf(table), FORBIDDEN, table)

    def text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode([t for t in tokens if self.is_text(t)], skip_special_tokens=True)

    def words(self, tokens: Sequence[int], language: str = "en") -> list[Word]:
        """Splits text tokens into words, punctuation with the word it touches."""
        pieces = self._characters(tokens)
        if language in UNSPACED:
            return _attach_punctuation(pieces)
        words: list[Word] = []
        for piece in pieces:
            if words and not piece.text.startswith(" "):
                words[-1] = Word(words[-1].text + piece.text, words[-1].first, piece.last)
            else:
                words.append(piece)
        return _attach_punctuation(words)

    def _characters(self, tokens: Sequence[int]) -> list[Word]:
        """Shortest runs of tokens that decode to whole characters (a character may be split over byte tokens)."""
        out: list[Word] = []
        start = 0
        for i in range(1, len(tokens) + 1):
            text = self.text(tokens[start:i])
            if "\ufffd" not in text or i == len(tokens):
                out.append(Word(text, start, i))
                start = i
        return out


def _attach_punctuation(words: list[Word]) -> list[Word]:
    out: list[Word] = []
    for word in words:
        bare = word.text.strip()
        if (
            out
            and bare
            and not word.text.startswith(" ")
            and all(c in string.punctuation or c in "。，！？：、…" for c in bare)
        ):
            out[-1] = Word(out[-1].text + word.text.lstrip(), out[-1].first, word.last)
        elif bare:
            out.append(word)
    return out
