"""The channels of a stream: mixed into one, or each for itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from frontend.audio.format import BYTES_PER_SAMPLE, AudioFormat
from frontend.audio.resample import AudioInput, Pcm


class Channels:
    """Bytes of one stream in, int16 (n,) at 16 kHz out for each channel, or for their mix."""

    def __init__(self, audio_format: AudioFormat, *, apart: bool) -> None:
        self._n = audio_format.channels if apart else 1
        self._width = BYTES_PER_SAMPLE[audio_format.encoding]
        self._inputs = [AudioInput(replace(audio_format, channels=1) if apart else audio_format) for _ in range(self._n)]
        self._rest = b""

    def feed(self, data: bytes) -> list[Pcm]:
        if self._n == 1:
            return [self._inputs[0].feed(data)]
        data = self._rest + data
        whole = len(data) - len(data) % (self._n * self._width)
        data, self._rest = data[:whole], data[whole:]
        apart = np.frombuffer(data, np.uint8).reshape(-1, self._n, self._width)
        return [channel.feed(apart[:, i].tobytes()) for i, channel in enumerate(self._inputs)]

    def flush(self) -> list[Pcm]:
        """What the resamplers still hold; the stream may go on afterwards."""
        return [channel.flush() for channel in self._inputs]
