"""Where to cut speech that goes on for longer than a window holds."""

from __future__ import annotations

from collections.abc import Sequence

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
