"""What the engine keeps of each stream: the audio of the running window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RATE = 16_000
Pcm = npt.NDArray[np.int16]


def window_length(n_samples: int, buckets: Sequence[int], padding: int = 0) -> int:
    """The smallest bucket that holds the audio and `padding` zeros, or the last one, which need not hold the zeros."""
    return next((b for b in buckets if b >= n_samples + padding), buckets[-1])


class WindowFull(ValueError):
    """More audio than a window holds was sent without a final or reset."""


@dataclass
class Stream:
    """State of one correlation id."""

    max_samples: int
    audio: list[Pcm] = field(default_factory=list)
    n_samples: int = 0
    last_used: float = 0.0

    def append(self, audio: Pcm) -> None:
        """Raises `WindowFull` and keeps what is there when the window would grow past its limit."""
        if self.n_samples + len(audio) > self.max_samples:
            raise WindowFull(
                f"the window holds {self.n_samples / RATE:.1f} s; {len(audio) / RATE:.1f} s more would exceed "
                f"{self.max_samples / RATE:.0f} s: send a final or a reset first"
            )
        if len(audio):
            self.audio.append(audio)
            self.n_samples += len(audio)

    def window(self, buckets: Sequence[int], padding: int = 0) -> Pcm:
        """The audio, padded to the smallest bucket that holds it and `padding` zeros, or the last one; int16 (bucket,)."""
        size = window_length(self.n_samples, buckets, padding)
        out = np.zeros(size, np.int16)
        position = 0
        for chunk in self.audio:
            out[position : position + len(chunk)] = chunk
            position += len(chunk)
        if len(self.audio) > 1:
            self.audio = [out[:position].copy()]
        return out

    def clear(self) -> None:
        self.audio, self.n_samples = [], 0


class Streams:
    """Streams by correlation id, forgotten when idle: Triton does not tell a model that it dropped a sequence."""

    def __init__(self, max_samples: int, idle_s: float) -> None:
        self._max_samples, self._idle_s = max_samples, idle_s
        self._streams: dict[int | str, Stream] = {}
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, correlation_id: int | str, now: float, *, start: bool) -> Stream:
        """The stream of an id; `start` begins it anew. Raises `KeyError` for an id that is not running."""
        if start:
            self._streams[correlation_id] = Stream(self._max_samples)
        stream = self._streams[correlation_id]
        stream.last_used = now
        return stream

    def close(self, correlation_id: int | str) -> None:
        self._streams.pop(correlation_id, None)

    def sweep(self, now: float) -> None:
        """Forgets streams idle for longer than the limit; looks at most once a second."""
        if now - self._swept < 1.0:
            return
        self._swept = now
        for key in [k for k, s in self._streams.items() if now - s.last_used > self._idle_s]:
            del self._streams[key]
