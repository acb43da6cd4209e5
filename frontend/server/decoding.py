"""Recordings on disk to blocks of samples, whatever their container and codec, by FFmpeg (PyAV)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frontend.audio.format import ENGINE_RATE, MAX_CHANNELS, AudioFormat
from frontend.errors import InvalidAudio

Block = npt.NDArray[np.int16]
"""int16 (channels, n) at 16 kHz."""
_RAW = {"linear16": "s16le", "float32": "f32le", "mulaw": "mulaw", "alaw": "alaw"}
_CONTAINERS = "wav,w64,flac,ogg,mp3,aac,mov,matroska,amr,aiff,caf,au,asf,avi,mpegts"
"""What FFmpeg may take a file for: playlists would have it open other files and addresses."""


async def blocks(path: Path, raw: AudioFormat | None, *, multichannel: bool) -> AsyncIterator[Block]:
    """The recording in pieces of its own making, decoded in a thread. Raises `InvalidAudio` when nothing decodes it."""
    decoded = _decoded(path, raw, multichannel)
    while (block := await asyncio.to_thread(next, decoded, None)) is not None:
        yield block


def _decoded(path: Path, raw: AudioFormat | None, multichannel: bool) -> Iterator[Block]:
    import av
    from av.error import FFmpegError

    options = {"format_whitelist": _CONTAINERS}
    if raw:
        options = {"sample_rate": str(raw.sample_rate), "ch_layout": f"{raw.channels}c"}
    kind = _RAW[raw.encoding] if raw else None
    heard = False
    try:
        with av.open(str(path), format=kind, options=options, metadata_errors="ignore") as file:
            channels = file.streams.audio[0].channels
            if multichannel and channels > MAX_CHANNELS:
                raise InvalidAudio(f"{channels} channels; up to {MAX_CHANNELS} are transcribed apart")
            layout = file.streams.audio[0].layout.name if multichannel else "mono"
            resampler = av.AudioResampler("s16p", layout, ENGINE_RATE)
            for frame in file.decode(audio=0):
                for out in resampler.resample(frame):
                    heard = True
                    yield out.to_ndarray().astype(np.int16, copy=False)
            for out in resampler.resample(None):
                yield out.to_ndarray().astype(np.int16, copy=False)
    except (FFmpegError, IndexError, ValueError):
        if not heard:
            raise InvalidAudio("nothing decodes it; send WAV, FLAC, Ogg, MP3, MP4 or WebM") from None
