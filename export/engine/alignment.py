"""Word times from cross-attention: dynamic time warping of tokens over encoder frames.

As in openai/whisper `timing.py` (normalise each head over the tokens, smooth over time, average the heads, warp), with
one difference: each frame belongs to exactly one token, so the path is found frame by frame in vector steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME_SAMPLES = 320
SMOOTHING = 7  # frames, Whisper's medfilt_width

Float = npt.NDArray[np.float32]


def _smooth(x: Float) -> Float:
    """Median over `SMOOTHING` frames, edges reflected; (heads, tokens, frames)."""
    half = SMOOTHING // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, ((0, 0), (0, 0), (half, half)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHING, axis=-1)
    return np.partition(windows, half, axis=-1)[..., half]


def warp(cost: Float) -> npt.NDArray[np.int64]:
    """The first frame of each token on the cheapest monotone path; `cost` (tokens, frames), needs tokens <= frames."""
    n_tokens, n_frames = cost.shape
    if n_tokens > n_frames:
        return np.linspace(0, n_frames, n_tokens, endpoint=False).astype(np.int64)
    total = np.full(n_tokens, np.inf, np.float64)
    total[0] = cost[0, 0]
    moved = np.zeros((n_frames, n_tokens), bool)
    shifted = np.full(n_tokens, np.inf)
    for frame in range(1, n_frames):
        shifted[1:] = total[:-1]
        moved[frame] = shifted < total
        total = np.minimum(total, shifted) + cost[:, frame]
    starts = np.zeros(n_tokens, np.int64)
    token = n_tokens - 1
    for frame in range(n_frames - 1, 0, -1):
        if moved[frame, token]:
            starts[token] = frame
            token -= 1
    return starts


def token_starts(attention: Float, n_frames: int) -> npt.NDArray[np.int64]:
    """Start of each token in samples.

    `attention` (heads, tokens + 1, T): the row of a token is the attention of the step that produced it, the last row
    the step that ended the text. `n_frames` <= T: frames that hold audio. Returns int64 (tokens + 1,), the last being
    the end of the last token.
    """
    weights = attention[:, :, : max(1, n_frames)]
    deviation = weights.std(axis=1, keepdims=True) + 1e-6
    weights = _smooth((weights - weights.mean(axis=1, keepdims=True)) / deviation)
    return warp(-weights.mean(axis=0)) * FRAME_SAMPLES
