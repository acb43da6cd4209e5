"""Where to cut speech that goes on for longer than a window holds."""

from __future__ import annotations

from collections.abc import Sequence

from frontend.speech.events import Word
from frontend.speech.vad_gate import FRAME

SMOOTHING = 5
"""Frames (160 ms) averaged, so that a stop consonant does not look like a pause."""


def best_pause(probabilities: Sequence[float], start: int, earliest: int, latest: int) -> int:
    """The sample between `earliest` and `latest` where speech is least likely, the later one of equals.

    `probabilities[i]` belongs to the frame at `start + i * FRAME`. Later cuts are favoured a little: a longer segment
    gives the model more context.
    """
    first = max(0, (earliest - start) // FRAME)
    last = min(len(probabilities), (latest - start) // FRAME)
    best, best_score = latest, float("inf")
    half = SMOOTHING // 2
    for i in range(first, last):
        window = probabilities[max(0, i - half) : i + half + 1]
        score = sum(window) / len(window) - 0.1 * (i - first) / max(1, last - first)
        if score <= best_score:
            best, best_score = start + i * FRAME + FRAME // 2, score
    return best


NEAR = 3 * FRAME
"""How far from the middle of a gap between words the quietest place is looked for; word times are that uncertain."""
LATE = 2 * FRAME
"""How much later than a word begins the VAD hears it: cut where speech seems least likely, problem became roblom."""
UNSURE = 8_000
"""Words in the last 500 ms of a window may be cut off, or made up."""


def best_gap(
    probabilities: Sequence[float], start: int, words: Sequence[Word], earliest: int, latest: int
) -> tuple[int, int]:
    """Where to cut a decoded window: the sample, and how many of its words lie before it.

    The gap between two words where speech is least likely; without a gap in [earliest, latest - UNSURE) the best pause,
    and the words whose middle lies before it. Times in samples of the stream.
    """
    best: tuple[float, int, int] | None = None
    for k in range(1, len(words)):
        middle = (words[k - 1].end + words[k].start) // 2
        if not earliest <= middle < latest - UNSURE:
            continue
        at = best_pause(probabilities, start, max(words[k - 1].start, middle - NEAR), min(words[k].end, middle + NEAR))
        i = (at - start) // FRAME
        around = probabilities[max(0, i - 1) : i + 2] or [1.0]
        score = sum(around) / len(around) - 0.1 * (middle - earliest) / max(1, latest - earliest)
        if best is None or score <= best[0]:
            best = score, max(words[k - 1].start, at - LATE), k
    if best:
        return best[1], best[2]
    at = best_pause(probabilities, start, earliest, latest)
    return at, sum((w.start + w.end) // 2 < at for w in words)
