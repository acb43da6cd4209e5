"""What a client may send, and the checks that say so."""

from __future__ import annotations

from dataclasses import dataclass

from frontend.errors import InvalidAudio

BYTES_PER_SAMPLE = {"linear16": 2, "linear16be": 2, "linear32": 4, "float32": 4, "mulaw": 1, "alaw": 1}
"""Raw samples, interleaved; little-endian but for `linear16be`."""
CONTAINERS = ("auto", "flac", "ogg-opus")
"""Found out from the bytes, whichever of these names is given."""
FRAMED = {"amr-nb": "amrnb", "amr-wb": "amrwb", "g722": "g722", "g729": "g729", "gsm": "gsm"}
"""Streams of frames whose length is known, in any cut; to the names of FFmpeg's demuxers."""
PACKETS = ("opus", "speex")
"""Packets whose length only the sender knows: one a message."""
ENCODINGS = (*BYTES_PER_SAMPLE, *CONTAINERS, *FRAMED, *PACKETS)
MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 48_000, 16
ENGINE_RATE = 16_000


@dataclass(frozen=True)
class AudioFormat:
    """Raises `InvalidAudio`, with what is supported, for what is not.

    Containers and frames bring their own rate and channels; packets may need to be told.
    """

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
        if self.encoding in PACKETS and self.channels > 2:
            raise InvalidAudio(f"{self.encoding} packets have one or two channels; send a container for {self.channels}")

    @property
    def raw(self) -> bool:
        """Whether it is samples, for which no decoder is needed."""
        return self.encoding in BYTES_PER_SAMPLE

    @property
    def needs_rate(self) -> bool:
        """Whether the bytes do not say at what rate they are."""
        return self.raw or self.encoding == "speex"

    @property
    def contained(self) -> bool:
        """Whether rate and channels are known only when the bytes are."""
        return self.encoding in CONTAINERS

    @property
    def frame_bytes(self) -> int:
        """Bytes of one raw sample of every channel."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels
