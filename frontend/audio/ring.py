"""The recent audio of a session, addressed by sample index from the start of the stream."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]


class AudioRing:
    """Keeps samples from `begin` to `end`; memory is what was appended and not released."""

    def __init__(self) -> None:
        self._chunks: deque[Pcm] = deque()
        self.begin = 0
        self.end = 0

    def append(self, audio: Pcm) -> None:
        if len(audio):
            self._chunks.append(audio)
            self.end += len(audio)

    def release(self, before: int) -> None:
        """Forgets whole chunks that lie before a sample index."""
        while self._chunks and self.begin + len(self._chunks[0]) <= before:
            self.begin += len(self._chunks.popleft())

    def read(self, start: int, end: int) -> Pcm:
        """int16 (end - start,), zeros where the stream has not got to yet. Raises `IndexError` for released audio."""
        if start < self.begin:
            raise IndexError(f"samples from {start} were released; the ring begins at {self.begin}")
        out = np.zeros(max(0, end - start), np.int16)
        position = self.begin
        for chunk in self._chunks:
            low, high = max(start, position), min(end, position + len(chunk))
            if low < high:
                out[low - start : high - start] = chunk[low - position : high - position]
            position += len(chunk)
            if position >= end:
                break
        return out
