"""Decoding of raw samples: bytes in any cut, float32 mono out; what does not make a whole frame is carried over."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from frontend.audio.format import AudioFormat

Float = npt.NDArray[np.float32]


def _mulaw_table() -> Float:
    """ITU-T G.711 mu-law, 256 codes to -1..1."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Float:
    """ITU-T G.711 A-law, 256 codes to -1..1."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_INTEGERS = {"linear16": "<i2", "linear16be": ">i2", "linear32": "<i4"}
_TABLES = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}


class PcmDecoder:
    """Stateful over one stream: how the bytes are cut into messages does not change the samples."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._rest = b""

    def decode(self, data: bytes) -> Float:
        """float32 (n,) in -1..1, channels averaged; not-a-number and infinity become silence, the rest is clipped."""
        data = self._rest + data
        whole = len(data) - len(data) % self._format.frame_bytes
        data, self._rest = data[:whole], data[whole:]
        if self._format.encoding in _INTEGERS:
            samples = np.frombuffer(data, _INTEGERS[self._format.encoding])
            samples = samples.astype(np.float32) / np.float32(1 << 8 * samples.itemsize - 1)
        elif self._format.encoding == "float32":
            samples = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=0.0, neginf=0.0)
            samples = np.clip(samples, -1.0, 1.0)
        else:
            samples = _TABLES[self._format.encoding][np.frombuffer(data, np.uint8)]
        if self._format.channels > 1:
            samples = samples.reshape(-1, self._format.channels).mean(axis=1, dtype=np.float32)
        return samples
