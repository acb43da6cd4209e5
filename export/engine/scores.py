"""Numbers about a hypothesis: probabilities, entropy, and the signs that it was made up.

Thresholds are those of openai/whisper `transcribe.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

MAX_COMPRESSION = 2.4
"""Text that gzip makes smaller than by this is repetition."""
MIN_LOGPROB = -1.0
"""Mean log-probability of the tokens below which a text is doubted."""
MAX_NO_SPEECH = 0.6
"""Above it, silence explains a low log-probability."""


def log_softmax(x: Float) -> Float:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def repeats(tokens: Sequence[int], longest: int = 12, times: int = 3) -> int:
    """How many tokens at the end are a loop: a run of up to `longest` tokens said `times` times over; 0 if none."""
    for n in range(1, longest + 1):
        needed = n * (times if n > 2 else times * 2)
        if len(tokens) >= needed and all(tokens[-k - 1] == tokens[-k - 1 - n] for k in range(needed - n)):
            return needed - n
    return 0


def entropy(logprobs: Float) -> float:
    """In nats, of one distribution given as log-probabilities (vocab,); -inf entries count nothing."""
    known = logprobs[np.isfinite(logprobs)]
    return float(-(np.exp(known) * known).sum())


def compression(text: str) -> float:
    """How many times smaller zlib makes the text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def doubtful(text: str, logprobs: Sequence[float], no_speech: float) -> bool:
    """Whether Whisper's reference would decode again at a higher temperature."""
    mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
    if no_speech > MAX_NO_SPEECH and mean < MIN_LOGPROB:
        return False
    return compression(text) > MAX_COMPRESSION or mean < MIN_LOGPROB


def draw(logprobs: Float, temperature: float, r: np.random.Generator) -> int:
    """The likeliest token at temperature 0, else a sample (Gumbel's way)."""
    if temperature <= 0:
        return int(logprobs.argmax())
    noise: npt.NDArray[Any] = -np.log(-np.log(r.random(len(logprobs)) + 1e-20) + 1e-20)
    return int((logprobs / temperature + noise).argmax())
