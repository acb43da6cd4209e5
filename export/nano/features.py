"""Whisper's log-mel features of many utterances a second; the same as in the exported graph (`export/mel.py`)."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
from scipy.sparse import csr_array

from export.mel import HOP, N_FFT, Float, hann_window, mel_filters


@cache
def _filters(n_mels: int) -> csr_array:
    """Nearly all zeros; and BLAS would call up threads that the training beside needs."""
    return csr_array(mel_filters(n_mels))


def log_mel(audio: Float, n_mels: int = 80) -> Float:
    """Float PCM (n,) in -1..1, n a multiple of 160, to log-mel float32 (n_mels, n / 160).

    In single precision throughout; numpy's FFT knows only double.
    """
    padded = np.pad(audio.astype(np.float32), N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: len(audio) // HOP]
    spectrum = np.asarray(scipy.fft.rfft(frames * hann_window(), axis=1))
    power = spectrum.real**2 + spectrum.imag**2
    log = np.log10(np.maximum(_filters(n_mels) @ power.T, 1e-10))
    return (np.maximum(log, log.max() - 8.0) + 4.0) / 4.0
