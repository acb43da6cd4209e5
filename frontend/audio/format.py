"""What a client may send, and the checks that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from frontend.errors import InvalidAudio

Encoding = Literal["linear16", "float32", "mulaw", "alaw"]
ENCODINGS: tuple[str, ...] = get_args(Encoding)
BYTES_PER_SAMPLE = {"linear16": 2, "float32": 4, "mulaw": 1, "alaw": 1}
MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 48_000, 16
ENGINE_RATE = 16_000


@dataclass(frozen=True)
class AudioFormat:
    """Interleaved little-endian samples. Raises `InvalidAudio`, with what is supported, for anything else."""

    encoding: str = "linear16"
    sample_rate: int = ENGINE_RATE
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise InvalidAudio(f"encoding {self.encoding[:40]!r} is not supported; send one of {', '.join(ENCODINGS)}")
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise InvalidAudio(f"sample_rate {self.sample_rate} is not supported; send {MIN_RATE} to {MAX_RATE} Hz")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InvalidAudio(f"channels {self.channels} is not supported; send 1 to {MAX_CHANNELS}, they are mixed down")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels
