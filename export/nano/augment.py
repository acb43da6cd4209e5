"""Augmentation: speed, pitch (with it), gain, noise, room, telephone line; on the log-mel formants, microphone, pace, masks.

Everything is numpy/scipy, on float32 mono at 16 kHz in -1..1 or on log-mel, and driven by one `numpy.random.Generator`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from scipy.signal import fftconvolve, lfilter

from export.mel import mel_centres

Float = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]
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


def calls(r: np.random.Generator, n: int) -> Float:
    """Animals, horns, squeaking hinges: harmonic sounds of 0.1-1.2 s that glide and tremble."""
    out = np.zeros(n, np.float32)
    for _ in range(int(r.integers(1, 2 + n // 12000))):
        length = int(r.uniform(0.1, 1.2) * RATE)
        at = int(r.integers(0, max(1, n - length)))
        t = np.arange(length, dtype=np.float32) / RATE
        glide = np.interp(t, np.linspace(0, t[-1], 4), r.uniform(0.75, 1.35, 4))
        tremble = 1 + r.uniform(0, 0.08) * np.sin(2 * np.pi * r.uniform(4, 14) * t)
        pitch = r.uniform(120, 900)
        phase = 2 * np.pi * np.cumsum(pitch * glide * tremble) / RATE
        voices = range(1, max(2, int(5000 / pitch / 1.4)))
        steep = r.uniform(0.3, 1.6)
        piece = np.sum([np.sin(k * phase) / k**steep for k in voices], axis=0) * np.hanning(length) ** r.uniform(0.3, 1)
        piece = np.asarray(piece, np.float32)[: n - at] * r.uniform(0.3, 1.5)
        out[at : at + len(piece)] += piece / (np.abs(piece).max() + 1e-6)
    return out


def rubbing(r: np.random.Generator, n: int) -> Float:
    """Cloth on a microphone, paper, brushes: strokes of 40-400 ms of noise that flutters, one after another."""
    out = np.zeros(n, np.float32)
    low, high = r.uniform(0.0, 0.97), r.uniform(-0.9, 0.0)  # how much of the lows stays, and of the highs
    at = 0
    while at < n:
        length = int(r.uniform(0.04, 0.4) * RATE)
        t = np.arange(length, dtype=np.float32) / RATE
        flutter = 1 + r.uniform(0, 0.9) * np.sin(2 * np.pi * r.uniform(15, 70) * t)
        stroke = r.standard_normal(length) * np.hanning(length) ** r.uniform(0.3, 1) * flutter * r.uniform(0.2, 1.0)
        piece = np.asarray(lfilter([1.0, high], [1.0, -low], stroke), np.float32)[: n - at]
        out[at : at + len(piece)] += piece / (np.abs(piece).max() + 1e-6)
        at += int(length * r.uniform(0.5, 1.5))
    return out


def coloured_noise(r: np.random.Generator, n: int) -> Float:
    """White to brown noise, now and then of moving level, with knocks, rubbing, calls, a hum, or over and over; unit RMS."""
    white = r.standard_normal(n).astype(np.float32)
    pole = r.choice([0.0, 0.5, 0.9, 0.97])
    noise: Float = np.asarray(lfilter([1.0], [1.0, -pole], white), np.float32)
    if r.random() < 0.4:
        knots = r.uniform(0.2, 1.0, max(2, n // 4000))
        noise *= np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(knots)), knots).astype(np.float32)
    if r.random() < 0.35:
        noise += r.uniform(2, 8) * bursts(r, n)
    if r.random() < 0.25:
        noise += r.uniform(2, 8) * rubbing(r, n)
    if r.random() < 0.15:
        noise += r.uniform(1, 5) * calls(r, n)
    if r.random() < 0.2:
        noise += 0.7 * np.sin(2 * np.pi * r.uniform(50, 400) * np.arange(n, dtype=np.float32) / RATE).astype(np.float32)
    if r.random() < 0.15:
        noise = np.resize(noise[: int(r.uniform(0.3, 1.5) * RATE)], n)
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


def distort(
    r: np.random.Generator, audio: Float, strength: float, quietest_db: float = 8, loudest_db: float = 35,
    behind: Float | None = None,
) -> Float:  # fmt: skip
    """Room, noise, telephone line and gain, with chances that grow with `strength` (1: noise in 60 %). Noise is
    `quietest_db` to `loudest_db` below the speech; it is `behind`, float32 (n,), where that is given."""
    if r.random() < 0.25 * strength:
        audio = room(r, audio)
    level = np.sqrt(np.mean(audio**2)) + 1e-6
    if r.random() < 0.6 * strength:
        noise = coloured_noise(r, len(audio)) if behind is None else behind / (np.sqrt(np.mean(behind**2)) + 1e-9)
        audio = audio + noise * level * 10 ** (-r.uniform(quietest_db, loudest_db) / 20)
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


def microphone(r: np.random.Generator, mel: Float, spread_db: float = 4) -> Float:
    """Another frequency response: a smooth curve over the mels, `spread_db` its deviation; log-mel (n_mels, frames)."""
    knots = r.normal(0, spread_db / 40, 7)  # 10 dB are a quarter of Whisper's log-mel
    heard = mel + np.interp(np.linspace(0, 6, len(mel)), np.arange(7), knots)[:, None]
    return np.maximum(heard, heard.max() - 2.0).astype(np.float32)


def pace(r: np.random.Generator, seconds: float, spread: float = 0.18) -> tuple[Times, Times]:
    """Speech now faster, now slower, as long as before: knots in seconds, before and after."""
    knots = np.linspace(0, seconds, 2 + int(seconds / 0.35))
    lengths = np.exp(r.normal(0, spread, len(knots) - 1))
    return knots, np.concatenate([[0.0], np.cumsum(lengths) / lengths.sum() * seconds])


def repaced(mel: Float, before: Times, after: Times) -> Float:
    """Log-mel (n_mels, frames) as `pace` would have it; what comes behind the last knot stays."""
    n = min(mel.shape[1], int(after[-1] * 100))
    position = np.interp(np.arange(n) / 100, after, before) * 100
    low = np.minimum(position.astype(np.int64), mel.shape[1] - 2)
    share = (position - low).astype(np.float32)
    return np.concatenate([mel[:, low] * (1 - share) + mel[:, low + 1] * share, mel[:, n:]], axis=1)


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
