"""Rows of windows of different lengths in one running batch."""

from __future__ import annotations

import numpy as np

from export.nano.evaluate import Recogniser
from export.repository import NANO

SENTENCES = [
    "Go.",
    "Good morning, Peter.",
    "The train to London leaves at half past three.",
    "The old woman walked through the garden, and the dog followed her slowly to the gate of the farm.",
]


def test_words_and_times_are_those_of_each_window_alone(speak):
    clips = [speak(t).audio for t in SENTENCES] * 3
    assert len({-(-len(c) // 16000) for c in clips}) >= 3
    recogniser = Recogniser(NANO)
    try:
        together = recogniser.transcribe(clips, words=True)
        alone = [recogniser.transcribe([c], words=True)[0] for c in clips[:4]] * 3
    finally:
        recogniser.close()
    assert [h.tokens for h in together] == [h.tokens for h in alone]
    assert [h.words for h in together] == [h.words for h in alone]
    for a, b in zip(together, alone, strict=True):
        assert np.abs(np.array(a.word_times) - np.array(b.word_times)).max(initial=0) <= 640
    assert all(h.words for h in alone[2:4])
