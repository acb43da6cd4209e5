"""The header of a WAV stream of plain samples. FFmpeg's own reader takes 64 KB of them before it gives the first one."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MOST_HEAD = 65_536
"""Bytes before the samples; FFmpeg takes what has more."""
MOST_CHANNELS, MOST_RATE = 64, 384_000
_CODECS = {
    (1, 8): "pcm_u8", (1, 16): "pcm_s16le", (1, 24): "pcm_s24le", (1, 32): "pcm_s32le",
    (3, 32): "pcm_f32le", (3, 64): "pcm_f64le", (6, 8): "pcm_alaw", (7, 8): "pcm_mulaw",
}  # fmt: skip
"""Format tag (RFC 2361) and bits of a sample to FFmpeg's name."""
EXTENSIBLE = 0xFFFE
ENDLESS = 0x7FFFF000
"""Lengths from here on, and 0, are those of writers that did not know it."""


@dataclass(frozen=True)
class Wav:
    """`begin`, `length`: of the samples, in bytes; `length` None where the stream does not say."""

    codec: str
    sample_rate: int
    channels: int
    frame_bytes: int
    begin: int
    length: int | None


def parsed(head: bytes) -> Wav | None:
    """The header of a stream that begins so. None: it is no plain WAV, or `IndexError`: more bytes are needed to tell."""
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        return None
    at, found = 12, None
    while at <= MOST_HEAD:
        if at + 8 > len(head):
            raise IndexError
        kind, (size,) = head[at : at + 4], struct.unpack_from("<I", head, at + 4)
        if kind == b"data":
            if found is None:
                return None
            length = None if size == 0 or size >= ENDLESS else size
            return Wav(*found, at + 8, length)
        if kind == b"fmt ":
            if size < 16:
                return None
            if at + 8 + size > len(head):
                raise IndexError
            found = _format(head[at + 8 : at + 8 + size])
            if found is None:
                return None
        at += 8 + size + size % 2
    return None


def _format(fmt: bytes) -> tuple[str, int, int, int] | None:
    """Codec, rate, channels and bytes of a frame."""
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == EXTENSIBLE and len(fmt) >= 26:
        (tag,) = struct.unpack_from("<H", fmt, 24)
    codec = _CODECS.get((tag, bits))
    sensible = 0 < channels <= MOST_CHANNELS and 0 < rate <= MOST_RATE and frame_bytes == channels * bits // 8
    return (codec, rate, channels, frame_bytes) if codec and sensible else None
