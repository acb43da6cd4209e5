"""The recent audio of a session, addressed by sample index from the start of the stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
SMALLEST = 8_000
"""Samples the buffer holds at least: half a second, 16 KB."""


class AudioRing:
    """Keeps samples from `begin` to `end`, in one buffer of at most about twice what is kept, however small the pieces."""

    def __init__(self) -> None:
        self._buffer = np.zeros(SMALLEST, np.int16)
        self._first = 0
        self.begin = 0
        self.end = 0

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return self._buffer.nbytes

    def append(self, audio: Pcm) -> None:
        used = self.end - self.begin
        if self._first + used + len(audio) > len(self._buffer):
            kept = self._buffer[self._first : self._first + used]
            self._buffer = np.zeros(max(SMALLEST, 2 * (used + len(audio))), np.int16)
            self._buffer[:used] = kept
            self._first = 0
        at = self._first + used
        self._buffer[at : at + len(audio)] = audio
        self.end += len(audio)

    def release(self, before: int) -> None:
        """Forgets what lies before a sample index."""
        n = max(0, min(before, self.end) - self.begin)
        self._first += n
        self.begin += n

    def read(self, start: int, end: int) -> Pcm:
        """A copy, int16 (end - start,), zeros where the stream has not got to yet.

        Raises `IndexError` for audio that has been released.
        """
        if start < self.begin:
            raise IndexError(f"samples from {start} were released; the ring begins at {self.begin}")
        out = np.zeros(max(0, end - start), np.int16)
        there = self._buffer[self._first + start - self.begin : self._first + min(end, self.end) - self.begin]
        out[: len(there)] = there
        return out
