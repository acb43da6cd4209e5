"""Augmentation: speed, pitch (with it), gain, noise, room, telephone line, and formants and masks on the log-mel.

Everything is numpy/scipy, on float32 mono at 16 kHz in -1..1 or on log-mel, and driven by one `numpy.random.Generator`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from scipy.signal import fftconvolve, lfilter

from export.mel import mel_centres

Float = npt.NDArray[np.float32]
RATE = 16_000


def speed(audio: Float, factor: float) -> Float:
    """Faster and higher by `factor` (resampled)."""
    return soxr.resample(audio, RATE * factor, RATE, quality="LQ").astype(np.float32)


def bursts(r: np.random.Generator, n: int) -> Float:
    """Knocks, rubbing, clucking: pieces of 10-400 ms of noise in bands of their own, which begin suddenly and die away."""
    out = np.zeros(n, np.float32)
    for _ in range(int(r.integers(1, 2 + n // 4000))):
        length = int(r.uniform(0.01, 0.4) * RATE)
        at = int(r.integers(0, max(1, n - length)))
        decay = np.exp(-r.uniform(1, 8) * np.arange(length, dtype=np.float32) / length)
        angle, width = 2 * np.pi * r.uniform(100, 6000) / RATE, r.uniform(0.6, 0.98)
        piece = lfilter([1.0], [1.0, -2 * width * np.cos(angle), width**2], r.standard_normal(length) * decay)
        piece = np.asarray(piece, np.float32)[: n - at] * r.uniform(0.3, 1.5)
        out[at : at + len(piece)] += piece / (np.abs(piece).max() + 1e-6)
    return out


def coloured_noise(r: np.random.Generator, n: int) -> Float:
    """White to brown noise, sometimes with a slowly moving level; unit RMS."""
    white = r.standard_normal(n).astype(np.float32)
    pole = r.choice([0.0, 0.5, 0.9, 0.97])
    noise: Float = np.asarray(lfilter([1.0], [1.0, -pole], white), np.float32)
    if r.random() < 0.4:
        knots = r.uniform(0.2, 1.0, max(2, n // 4000))
        noise *= np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(knots)), knots).astype(np.float32)
    if r.random() < 0.3:
        noise += 3 * bursts(r, n)
    if r.random() < 0.2:
        noise += 0.7 * np.sin(2 * np.pi * r.uniform(50, 400) * np.arange(n, dtype=np.float32) / RATE).astype(np.float32)
    return noise / (np.sqrt(np.mean(noise**2)) + 1e-9)


def room(r: np.random.Generator, audio: Float) -> Float:
    """A synthetic room: a direct path, a few early reflections, an exponential tail of 0.1-0.5 s."""
    n = int(r.uniform(0.1, 0.5) * RATE)
    tail = r.standard_normal(n).astype(np.float32) * np.exp(-6.9 * np.arange(n, dtype=np.float32) / n)
    tail *= r.uniform(0.02, 0.12)
    tail[0] = 1.0
    for _ in range(4):
        tail[r.integers(30, min(n, 800))] += r.uniform(0.1, 0.4)
    return fftconvolve(audio, tail)[: len(audio)].astype(np.float32)


def telephone(audio: Float) -> Float:
    """8 kHz mu-law and back."""
    low = soxr.resample(audio, RATE, 8000, quality="LQ")
    coded = np.sign(low) * np.log1p(255 * np.minimum(np.abs(low), 1)) / np.log1p(255)
    coded = np.round(coded * 127) / 127
    low = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(255)) / 255
    return soxr.resample(low, 8000, RATE, quality="LQ").astype(np.float32)[: len(audio)]


def distort(r: np.random.Generator, audio: Float, strength: float, quietest_db: float = 8) -> Float:
    """Room, noise (`quietest_db` below the speech and more), telephone line and gain, with chances that grow with
    `strength` (0..1)."""
    if r.random() < 0.25 * strength:
        audio = room(r, audio)
    level = np.sqrt(np.mean(audio**2)) + 1e-6
    if r.random() < 0.6 * strength:
        audio = audio + coloured_noise(r, len(audio)) * level * 10 ** (-r.uniform(quietest_db, 35) / 20)
    if r.random() < 0.12 * strength:
        audio = telephone(np.clip(audio / (np.abs(audio).max() + 1e-6) * 0.7, -1, 1))
    peak = np.abs(audio).max() + 1e-6
    return (audio * min(r.uniform(0.05, 0.95) / peak, 30.0)).astype(np.float32)


def warp_formants(mel: Float, factor: float) -> Float:
    """Another vocal tract: every formant moves up by `factor` (VTLP, Jaitly & Hinton 2013); log-mel (n_mels, frames)."""
    centres = mel_centres(len(mel))
    position = np.interp(centres / factor, centres, np.arange(len(mel)))
    low = np.minimum(position.astype(np.int64), len(mel) - 2)
    share = (position - low)[:, None].astype(np.float32)
    return mel[low] * (1 - share) + mel[low + 1] * share


def spec_augment(r: np.random.Generator, mel: Float, strength: float) -> Float:
    """SpecAugment in place: up to two bands of up to 14 mels, up to three stretches of up to 25 frames, set to the mean."""
    fill = float(mel.mean())
    n_mels, n_frames = mel.shape
    for _ in range(r.integers(0, 3)):
        width = int(r.integers(0, 1 + int(14 * strength)))
        start = int(r.integers(0, n_mels - width))
        mel[start : start + width] = fill
    for _ in range(r.integers(0, 4)):
        width = int(r.integers(0, 1 + int(25 * strength)))
        start = int(r.integers(0, max(1, n_frames - width)))
        mel[:, start : start + width] = fill
    return mel
