"""Audio files to samples: libsndfile for what it reads, FFmpeg (PyAV) for the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Pcm = npt.NDArray[np.int16]
RATE = 16_000


class UnreadableAudio(Exception):
    """No decoder makes sense of the file; the message says what was tried."""


def read_audio(path: Path) -> tuple[Pcm, int]:
    """Mono int16 (n,) and its sample rate in Hz. Raises `UnreadableAudio`, `FileNotFoundError`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if not 8_000 <= rate <= 48_000:
                raise soundfile.LibsndfileError(0)
            samples = np.nan_to_num(file.read(dtype="float32", always_2d=True), nan=0.0, posinf=0.0, neginf=0.0).mean(axis=1)
        if len(samples) == 0:
            raise UnreadableAudio(f"{path.name} holds no audio")
        return np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16), rate
    except (soundfile.LibsndfileError, TypeError, ValueError):
        return _with_ffmpeg(path), RATE


def _with_ffmpeg(path: Path) -> Pcm:
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            resampler = av.AudioResampler("s16", "mono", RATE)
            frames = [f for packet in container.decode(audio=0) for f in resampler.resample(packet)]
            frames += resampler.resample(None)
    except (FFmpegError, IndexError, ValueError) as error:
        raise UnreadableAudio(f"{path.name} is not audio that libsndfile or FFmpeg can decode ({error})") from None
    if not frames:
        raise UnreadableAudio(f"{path.name} holds no audio")
    return np.concatenate([f.to_ndarray().reshape(-1) for f in frames]).astype(np.int16)
