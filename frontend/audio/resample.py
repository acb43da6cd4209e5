"""Client audio to the engine's 16 kHz mono int16, by soxr where the rate differs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from frontend.audio.format import ENGINE_RATE, AudioFormat
from frontend.audio.pcm import PcmDecoder

PIECE = 2_400
"""Samples given to soxr at once: its buffers stay as large as the largest piece was."""
Float = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]


class Resampler:
    """float32 (n,) in -1..1 at `rate` Hz in, int16 (n,) at 16 kHz out.

    soxr holds some milliseconds back to filter across pieces; `flush` gives them at the end of the stream.
    """

    def __init__(self, rate: float) -> None:
        self._soxr = (
            None if rate == ENGINE_RATE else soxr.ResampleStream(rate, ENGINE_RATE, 1, dtype="float32", quality="MQ")
        )

    def feed(self, samples: Float) -> Pcm:
        return self._convert(samples, last=False)

    def flush(self) -> Pcm:
        """What is still held; the stream may go on afterwards."""
        if self._soxr is None:
            return np.zeros(0, np.int16)
        out = self._convert(np.zeros(0, np.float32), last=True)
        self._soxr.clear()
        return out

    def _convert(self, samples: Float, *, last: bool) -> Pcm:
        if self._soxr is not None:
            pieces = [samples[i : i + PIECE] for i in range(0, len(samples), PIECE)] or [samples]
            done = [self._soxr.resample_chunk(piece) for piece in pieces[:-1]]
            samples = np.concatenate([*done, self._soxr.resample_chunk(pieces[-1], last=last)])
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


class AudioInput:
    """Bytes of one raw stream in, int16 (n,) at 16 kHz out; its channels are mixed."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._decoder = PcmDecoder(audio_format)
        self._resampler = Resampler(audio_format.sample_rate)

    def feed(self, data: bytes) -> Pcm:
        return self._resampler.feed(self._decoder.decode(data))

    def flush(self) -> Pcm:
        """What the resampler still holds; the stream may go on afterwards."""
        return self._resampler.flush()
