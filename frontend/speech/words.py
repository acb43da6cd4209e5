"""Words of a hypothesis as they are told: placed in the stream, and without those that nobody said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from frontend.speech.events import Hypothesis, Word
from frontend.speech.vad_gate import FRAME

MAX_NO_SPEECH = 0.6
MIN_LOGPROB = -1.0
"""A text less likely than this, where silence is likelier than `MAX_NO_SPEECH`, is taken for invented: Whisper's own."""
HOPELESS = -1.2
"""A text less likely than this is noise read as words, however much it sounds like speech to the VAD."""
UNBELIEVABLE = 0.15
"""A text none of whose words is likelier right than this is taken for invented too: calibrated, six in seven are wrong."""
HEARD = 0.1
"""A word over which the VAD never reaches this speech probability was not said."""
GUESSED = 0.2
"""A word of a partial of lower confidence, and what follows it, is not told yet: it would mostly be taken back."""
NEAR = 2 * FRAME
"""How far beside the word's time speech counts: word times are off by up to 60 ms."""


def invented(h: Hypothesis) -> bool:
    """Whether a text is likelier made up than heard."""
    mean = sum(h.logprobs) / len(h.logprobs) if h.logprobs else 0.0
    if mean < HOPELESS or (h.no_speech_probability > MAX_NO_SPEECH and mean < MIN_LOGPROB):
        return True
    return bool(h.words) and max(w.confidence for w in h.words) < UNBELIEVABLE


def placed(words: Sequence[Word], start: int) -> list[Word]:
    """With times in samples of the stream; texts keep the space before them."""
    return [replace(w, start=start + w.start, end=start + w.end) for w in words]


def heard(words: Sequence[Word], probabilities: Sequence[float], start: int) -> list[Word]:
    """The words over which there was speech; `probabilities[i]` is of the frame at `start + i * FRAME`."""
    kept: list[Word] = []
    for word in words:
        first = max(0, (word.start - NEAR - start) // FRAME)
        last = max(first + 1, (word.end + NEAR - start) // FRAME + 1)
        over = probabilities[first:last]
        if not over or max(over) >= HEARD:
            kept.append(word)
    return kept


def likely(words: Sequence[Word], n_settled: int) -> list[Word]:
    """The settled words and those after them up to the first that is only guessed."""
    end = next((i for i, w in enumerate(words) if i >= n_settled and w.confidence < GUESSED), len(words))
    return list(words[:end])


def tokens_of(
    h: Hypothesis, placed: Sequence[Word], kept: Sequence[Word]
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]:
    """Tokens and log-probabilities of the words kept, some of those `placed`, and how many each has; all tokens of a
    hypothesis without words."""
    if not h.words:
        return h.tokens, h.logprobs, ()
    kept_ids = {id(w) for w in kept}
    ends = list(accumulate(h.word_tokens))
    spans = [(end - n, end) for w, n, end in zip(placed, h.word_tokens, ends, strict=False) if id(w) in kept_ids]
    tokens = tuple(t for start, end in spans for t in h.tokens[start:end])
    logprobs = tuple(p for start, end in spans for p in h.logprobs[start:end])
    return tokens, logprobs, tuple(end - start for start, end in spans)


def text_of(words: Sequence[Word]) -> str:
    return "".join(w.text for w in words).strip()


def told(words: Sequence[Word]) -> tuple[Word, ...]:
    """Without the space before them."""
    return tuple(replace(w, text=w.text.strip()) for w in words)
