"""Client audio to the engine's 16 kHz mono int16, by soxr where the rate differs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from frontend.audio.format import ENGINE_RATE, AudioFormat
from frontend.audio.pcm import PcmDecoder

Pcm = npt.NDArray[np.int16]


class AudioInput:
    """Bytes of one stream in, int16 (n,) at 16 kHz out.

    soxr holds some milliseconds back to filter across messages; `flush` gives them at the end of the stream.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._decoder = PcmDecoder(audio_format)
        rate = audio_format.sample_rate
        self._resampler = (
            None if rate == ENGINE_RATE else soxr.ResampleStream(rate, ENGINE_RATE, 1, dtype="float32", quality="MQ")
        )

    def feed(self, data: bytes) -> Pcm:
        return self._convert(self._decoder.decode(data), last=False)

    def flush(self) -> Pcm:
        """What the resampler still holds; the stream may go on afterwards."""
        if self._resampler is None:
            return np.zeros(0, np.int16)
        out = self._convert(np.zeros(0, np.float32), last=True)
        self._resampler.clear()
        return out

    def _convert(self, samples: npt.NDArray[np.float32], *, last: bool) -> Pcm:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
