"""Channels of a stream, mixed or apart: however the bytes are cut, each is what it would be alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.channels import Channels
from frontend.audio.format import AudioFormat
from frontend.audio.resample import AudioInput


def fed(channels: Channels, data: bytes, cuts: list[int]) -> list[np.ndarray]:
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    told = [channels.feed(data[a:b]) for a, b in pairwise(edges)]
    return [np.concatenate(parts) for parts in zip(*told, channels.flush(), strict=True)]


@given(st.integers(1, 4), st.integers(0, 200), st.lists(st.integers(0, 900), max_size=6))
def test_each_channel_is_what_it_would_be_alone(n: int, length: int, cuts: list[int]):
    samples = np.random.default_rng(length).integers(-32768, 32767, (length, n)).astype("<i2")
    apart = fed(Channels(AudioFormat("linear16", 16_000, n), apart=True), samples.tobytes(), cuts)
    assert len(apart) == n
    for i, channel in enumerate(apart):
        assert np.array_equal(channel, samples[:, i])


def test_channels_are_resampled_each():
    samples = np.random.default_rng(0).integers(-3_000, 3_000, (8_000, 2)).astype("<i2")
    apart = fed(Channels(AudioFormat("linear16", 8_000, 2), apart=True), samples.tobytes(), [1, 777])
    for i, channel in enumerate(apart):
        alone = AudioInput(AudioFormat("linear16", 8_000))
        expected = np.concatenate([alone.feed(samples[:, i].tobytes()), alone.flush()])
        assert len(channel) == len(expected)
        assert np.abs(channel.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("n", [1, 2])
def test_channels_that_are_not_apart_are_one(n: int):
    samples = np.full((100, n), 1_000, "<i2")
    (mixed,) = fed(Channels(AudioFormat("linear16", 16_000, n), apart=False), samples.tobytes(), [33])
    assert np.array_equal(mixed, samples[:, 0])
