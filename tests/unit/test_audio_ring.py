"""The ring of recent audio against a plain array that keeps everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.ring import AudioRing

SIZE = st.integers(0, 60) | st.integers(1_000, 20_000)
POSITION = st.integers(0, 400) | st.integers(0, 60_000)
APPEND = st.tuples(st.just("append"), SIZE)
RELEASE = st.tuples(st.just("release"), POSITION)
READ = st.tuples(st.just("read"), POSITION, SIZE)


@given(st.lists(st.one_of(APPEND, RELEASE, READ), max_size=40))
def test_it_reads_like_an_array_of_the_whole_stream(steps: list[tuple]):
    ring, everything, promised = AudioRing(), np.zeros(0, np.int16), 0
    for step in steps:
        match step:
            case ("append", n):
                fresh = np.arange(len(everything) + 1, len(everything) + n + 1).astype(np.int16)
                ring.append(fresh)
                everything = np.concatenate([everything, fresh])
            case ("release", before):
                ring.release(before)
                promised = max(promised, before)
            case ("read", start, length) if start >= ring.begin:
                beyond = np.zeros(max(0, start + length - len(everything)), np.int16)
                expected = np.concatenate([everything, beyond])[start : start + length]
                read = ring.read(start, start + length)
                assert len(read) == length
                np.testing.assert_array_equal(read[: len(expected)], expected)
                assert not read[len(expected) :].any(), "beyond the end of the stream is silence"
            case ("read", start, length):
                with pytest.raises(IndexError):
                    ring.read(start, start + length)
        assert ring.end == len(everything)
        assert ring.begin <= min(promised, ring.end), "released more than it was told to"


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20), before=st.integers(0, 1200))
def test_exactly_what_lies_before_the_released_sample_is_forgotten(sizes: list[int], before: int):
    ring = AudioRing()
    for n in sizes:
        ring.append(np.zeros(n, np.int16))
    ring.release(before)
    assert ring.begin == min(before, sum(sizes))


def test_memory_follows_what_is_kept_however_small_the_pieces():
    ring = AudioRing()
    for i in range(60_000):
        ring.append(np.full(1, i % 1000, np.int16))
        ring.release(i - 4_000)
    assert len(ring._buffer) <= 16_000
    assert ring.read(59_990, 60_000).tolist() == [i % 1000 for i in range(59_990, 60_000)]


def test_reading_released_audio_says_where_the_ring_begins():
    ring = AudioRing()
    ring.append(np.ones(10, np.int16))
    ring.append(np.ones(10, np.int16))
    ring.release(12)
    assert ring.begin == 12
    with pytest.raises(IndexError, match="begins at 12"):
        ring.read(11, 14)


def test_what_was_read_stays_as_it_was_when_the_ring_goes_on():
    ring = AudioRing()
    ring.append(np.ones(10, np.int16))
    read = ring.read(0, 10)
    ring.release(10)
    for _ in range(10):
        ring.append(np.full(3_000, 7, np.int16))
    assert read.tolist() == [1] * 10


def test_a_window_that_ends_before_it_begins_is_empty():
    ring = AudioRing()
    ring.append(np.ones(10, np.int16))
    assert len(ring.read(8, 3)) == 0
    ring.release(6)
    assert len(ring.read(8, 3)) == 0
