"""Speech for a session that is driven step by step, as the VAD hears it."""

from __future__ import annotations

from frontend.speech.settings import RATE
from frontend.speech.vad_gate import FRAME, VadSettings
from tests.unit.driver import speech

SECOND = -(-RATE // FRAME)
"""Frames."""
VAD = VadSettings()
ENDPOINT = -(-VAD.endpoint // FRAME)
"""Frames of silence that end an utterance."""


def utterance(n_frames: int = SECOND, before: int = SECOND, after: int = SECOND) -> list[float]:
    return speech((0.0, before), (1.0, n_frames), (0.0, after))
