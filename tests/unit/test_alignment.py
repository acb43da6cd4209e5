"""Word times from synthetic attention whose path is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.engine.alignment import FRAME_SAMPLES, _smooth, token_starts, warp


def cheapest(cost: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """The least cost and all starts that reach it, by trying every monotone path."""
    n_tokens, n_frames = cost.shape
    costs = {}
    for inner in itertools.combinations(range(1, n_frames), n_tokens - 1):
        starts = (0, *inner)
        bounds = [*starts, n_frames]
        costs[starts] = sum(cost[t, bounds[t] : bounds[t + 1]].sum() for t in range(n_tokens))
    least = min(costs.values())
    return least, [np.array(s) for s, c in costs.items() if c <= least + 1e-5]


@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_the_path_is_the_cheapest_of_all_monotone_paths(n_tokens: int, more_frames: int, seed: int):
    cost = np.random.default_rng(seed).normal(size=(n_tokens, n_tokens + more_frames)).astype(np.float32)
    _, best = cheapest(cost)
    assert any((warp(cost) == starts).all() for starts in best)


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_starts_begin_at_zero_and_never_go_back(n_tokens: int, n_frames: int, seed: int):
    starts = warp(np.random.default_rng(seed).normal(size=(n_tokens, n_frames)).astype(np.float32))
    assert starts.shape == (n_tokens,)
    assert starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    assert starts[-1] < n_frames


def test_more_tokens_than_frames_share_the_time_evenly():
    np.testing.assert_array_equal(warp(np.zeros((6, 3), np.float32)), [0, 0, 1, 1, 2, 2])


def attention(starts: list[int], n_frames: int, total: int, noise: float, seed: int = 0, heads: int = 4) -> np.ndarray:
    """Each token looks at its own frames, the last one at the end; rows sum to one, as a softmax gives them."""
    rng = np.random.default_rng(seed)
    bounds = [*starts, n_frames]
    weights = rng.random((heads, len(starts), total)) * noise + 1e-4
    for t, (low, high) in enumerate(itertools.pairwise(bounds)):
        weights[:, t, low:high] += 1.0
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


PATHS = [
    [0, 10, 20, 30, 40],
    [0, 4, 9, 40, 44, 90, 95],
    [0, 25, 50, 54],
    [0, *range(10, 150, 10)],
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_known_path_is_found_within_two_frames(path: list[int], noise: float):
    n_frames = path[-1] + 10
    starts = token_starts(attention(path, n_frames, 400, noise), n_frames)
    np.testing.assert_allclose(starts / FRAME_SAMPLES, path, atol=2)


def test_what_is_attended_to_beyond_the_audio_does_not_count():
    weights = attention(PATHS[0], 50, 400, 0.0)
    weights[:, 2, 300:] = 1.0
    np.testing.assert_allclose(token_starts(weights, 50) / FRAME_SAMPLES, PATHS[0], atol=2)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_smoothing_is_whispers_median_over_seven_frames_with_reflected_edges(n_frames: int, seed: int):
    x = np.random.default_rng(seed).normal(size=(2, 3, n_frames)).astype(np.float32)
    if n_frames <= 3:
        np.testing.assert_array_equal(_smooth(x), x)
        return
    padded = np.concatenate([x[..., 3:0:-1], x, x[..., -2:-5:-1]], axis=-1)
    expected = np.stack([np.median(padded[..., i : i + 7], axis=-1) for i in range(n_frames)], axis=-1)
    np.testing.assert_array_equal(_smooth(x), expected)


def test_one_head_that_looks_elsewhere_is_outvoted():
    weights = attention(PATHS[0], 50, 400, 0.1)
    weights[0] = np.random.default_rng(1).random(weights[0].shape)
    np.testing.assert_allclose(token_starts(weights, 50) / FRAME_SAMPLES, PATHS[0], atol=2)


@pytest.mark.parametrize("n_frames", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("n_tokens", [1, 2, 5])
def test_audio_shorter_than_the_smoothing_still_gives_times_in_order(n_tokens: int, n_frames: int):
    weights = np.random.default_rng(0).random((2, n_tokens, 50)).astype(np.float32)
    starts = token_starts(weights, n_frames)
    assert starts.shape == (n_tokens,)
    assert (np.diff(starts) >= 0).all()
    assert starts[-1] <= max(1, n_frames) * FRAME_SAMPLES


def test_attention_without_any_contrast_gives_finite_times():
    starts = token_starts(np.full((2, 3, 40), 1 / 40, np.float32), 40)
    assert (np.diff(starts) >= 0).all()
    assert (starts < 40 * FRAME_SAMPLES).all()
