"""Audio for the feature tests: recordings beside the project, synthetic noise; all int16 at 16 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

WINDOW = 480_000


def read(path: Path) -> np.ndarray:
    """A 16 kHz mono file as int16, also when it holds floats."""
    audio, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000, f"{path} has {rate} Hz"
    assert audio.ndim == 1, f"{path} has {audio.shape[1]} channels"
    return np.clip(np.round(audio * 32768), -32768, 32767).astype(np.int16)


def padded(audio: np.ndarray) -> np.ndarray:
    """The first 30 s, filled up with zeros."""
    return np.pad(audio[:WINDOW], (0, max(0, WINDOW - len(audio))))


def noises() -> dict[str, np.ndarray]:
    """30 s each: loud and barely audible noise, clipping, a click in silence, silence."""
    r = np.random.default_rng(5)
    click = np.zeros(WINDOW, np.int16)
    click[100_000] = 32767
    return {
        "gaussian": np.clip(r.normal(size=WINDOW) * 3000, -32768, 32767).astype(np.int16),
        "full scale": r.integers(-32768, 32768, WINDOW).astype(np.int16),
        "one bit": r.integers(-1, 2, WINDOW).astype(np.int16),
        "square": np.where((np.arange(WINDOW) // 40) % 2, 32767, -32768).astype(np.int16),
        "click": click,
        "silence": np.zeros(WINDOW, np.int16),
    }
