"""The constants of Whisper's log-mel features: the exporter puts them into the graph, training uses them too.

Source: openai/whisper `audio.py` (n_fft 400, hop 160, Hann, power spectrum, Slaney mel filters, log10 clamped 8 below
the maximum, scaled by (x + 4) / 4). The filters follow librosa's `htk=False, norm="slaney"`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
N_FFT = 400
HOP = 160


def _hz_to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = hz / (200.0 / 3)
    log = 15.0 + np.log(np.maximum(hz, 1e-10) / 1000.0) / (np.log(6.4) / 27.0)
    return np.where(hz >= 1000.0, log, linear)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel >= 15.0, 1000.0 * np.exp((np.log(6.4) / 27.0) * (mel - 15.0)), mel * (200.0 / 3))


@cache
def mel_filters(n_mels: int) -> Float:
    """Slaney mel filterbank, float32 (n_mels, 201)."""
    fft_hz = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    low, high = _hz_to_mel(np.array([0.0, SAMPLE_RATE / 2]))
    edges = _mel_to_hz(np.linspace(low, high, n_mels + 2))
    width = np.diff(edges)
    ramps = edges[:, None] - fft_hz[None, :]
    lower, upper = -ramps[:-2] / width[:-1, None], ramps[2:] / width[1:, None]
    weights = np.maximum(0.0, np.minimum(lower, upper))
    return (weights * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def mel_centres(n_mels: int) -> npt.NDArray[np.float64]:
    """The frequency in Hz at which each filter peaks, (n_mels,)."""
    low, high = _hz_to_mel(np.array([0.0, SAMPLE_RATE / 2]))
    return _mel_to_hz(np.linspace(low, high, n_mels + 2))[1:-1]


def hann_window() -> Float:
    """Periodic Hann window, float32 (400,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def dft_matrices() -> tuple[Float, Float]:
    """Windowed real DFT as two matrices (real, imaginary), each float32 (201, 400): what the ONNX graph convolves with."""
    angle = 2 * np.pi * np.outer(np.arange(N_FFT // 2 + 1), np.arange(N_FFT)) / N_FFT
    window = hann_window().astype(np.float64)
    return (np.cos(angle) * window).astype(np.float32), (-np.sin(angle) * window).astype(np.float32)
