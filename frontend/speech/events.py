"""What a session tells its client, and what it asks of the engine. Typed, in samples; adapters format them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


@dataclass(frozen=True)
class Alternative:
    """What a word may have been instead; its probability at the place of the word's first token."""

    text: str
    confidence: float


@dataclass(frozen=True)
class Word:
    """`text` as written (casing, punctuation), without spaces around it; times in samples of the stream."""

    text: str
    start: int
    end: int
    confidence: float
    alternatives: tuple[Alternative, ...] = ()
    """For words of low confidence, up to three, best first."""


@dataclass(frozen=True)
class Timings:
    """Where the time of a result went, in milliseconds: at the engine, and `lag_ms` from when the last audio that the result
    needs arrived, or the request for it, until it is told. What a partial needs ends with its window; a final needs the
    silence that ends its segment too, or the rest of a full window."""

    queue_ms: float = 0.0
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    lag_ms: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Hypothesis:
    """The engine's answer for a window. Word times are relative to the window's start, and words carry the space before
    them; `word_tokens` says how many of the tokens each is made of."""

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    words: tuple[Word, ...] = ()
    word_tokens: tuple[int, ...] = ()
    no_speech_probability: float = 0.0
    language: str | None = None
    language_probability: float | None = None
    timings: Timings = Timings()


# --- what a client is told ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpeechStarted:
    """Speech began at `at` (the first speech frame, without pre-roll)."""

    at: int


@dataclass(frozen=True)
class SpeechEnded:
    """The utterance's last speech was at `at`; told when the silence after it was long enough."""

    at: int


@dataclass(frozen=True)
class UtteranceEnded:
    """No word for the time that the client asked about; `at` is the end of the last word. Told after its final."""

    at: int


@dataclass(frozen=True)
class Partial:
    """A hypothesis of the running segment; the next one replaces it, but for its first `n_stable` words, which stay as
    they are, in the final too."""

    segment: int
    start: int
    end: int
    text: str
    confidence: float
    timings: Timings
    words: tuple[Word, ...] = ()
    n_stable: int = 0
    language: str | None = None


@dataclass(frozen=True)
class Final:
    """The settled text of a segment. `requested` when a finalize or close caused it rather than an endpoint;
    `ends_utterance` when silence or a request ended it, not a cut within speech that goes on."""

    segment: int
    start: int
    end: int
    text: str
    confidence: float
    words: tuple[Word, ...]
    timings: Timings
    requested: bool = False
    ends_utterance: bool = True
    language: str | None = None
    language_probability: float | None = None
    tokens: tuple[int, ...] = ()
    """Of the words that are told."""
    logprobs: tuple[float, ...] = ()
    """Of the tokens, natural."""
    word_tokens: tuple[int, ...] = ()
    """How many of the tokens each word is made of."""
    no_speech_probability: float = 0.0
    needed: int = 0
    """Audio before this sample was needed to know that the segment ends."""


@dataclass(frozen=True)
class NothingSaid:
    """An utterance that was told to have ended has no final, or none after those of its cuts: there were no words.
    `end` is the end of its audio."""

    end: int


@dataclass(frozen=True)
class Flushed:
    """A finalize or a discard has come to its place in the stream: segments that begin before `at` are from before it.
    `ended`: an utterance was running and has ended with it; else the final that answers a finalize is empty."""

    at: int
    discarded: bool
    ended: bool


@dataclass(frozen=True)
class Finished:
    """Everything the client sent has been answered: after a close."""


Event = SpeechStarted | SpeechEnded | UtteranceEnded | Partial | Final | NothingSaid | Flushed | Finished


# --- what the engine is asked -------------------------------------------------------------------------------------


class Decode(IntEnum):
    """Commands of the `whisper_<m>` model. A final goes ahead of partials that wait, and is decoded with more care."""

    PARTIAL = 1
    FINAL = 2
    RESET = 3


@dataclass(frozen=True)
class RunVad:
    """Speech probabilities wanted for the frames of [start, end), in order, one request at a time."""

    start: int
    end: int


@dataclass(frozen=True)
class RunAsr:
    """A decode wanted of the window [start, end); `start` stays the same over the partials of a segment."""

    command: Decode
    segment: int
    start: int
    end: int
    prefix: tuple[int, ...] = ()
    """Tokens that are settled: the hypothesis begins with them."""
    context: tuple[int, ...] = ()
    """Tokens of what was said right before the window."""
    language: str | None = None
    """What the session has found out; None: as the stream was opened."""


@dataclass(frozen=True)
class Emit:
    event: Event


Effect = RunVad | RunAsr | Emit
