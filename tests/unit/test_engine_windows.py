"""What the engine keeps of each stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.engine.windows import RATE, Stream, Streams, WindowFull

BUCKETS = [100, 200, 400]


def pcm(n: int, value: int = 1) -> np.ndarray:
    return np.full(n, value, np.int16)


def test_a_window_is_full_at_its_limit_and_keeps_what_it_held():
    stream = Stream(400)
    stream.append(pcm(300))
    stream.append(pcm(100, 2))
    with pytest.raises(WindowFull, match="send a final or a reset first"):
        stream.append(pcm(1, 3))
    assert stream.n_samples == 400
    np.testing.assert_array_equal(stream.window(BUCKETS), np.concatenate([pcm(300), pcm(100, 2)]))


def test_the_refusal_of_more_audio_says_how_much_there_is_and_may_be():
    stream = Stream(12 * RATE)
    stream.append(pcm(11 * RATE))
    with pytest.raises(WindowFull, match=r"holds 11\.0 s; 1\.5 s more would exceed 12 s"):
        stream.append(pcm(3 * RATE // 2))


def test_an_append_of_nothing_changes_nothing():
    stream = Stream(0)
    stream.append(pcm(0))
    assert stream.n_samples == 0
    assert stream.audio == []


@pytest.mark.parametrize(("n", "bucket"), [(0, 100), (1, 100), (100, 100), (101, 200), (400, 400)])
def test_the_window_is_padded_to_the_smallest_bucket_that_holds_it(n: int, bucket: int):
    stream = Stream(400)
    stream.append(pcm(n, 5))
    np.testing.assert_array_equal(stream.window(BUCKETS), np.concatenate([pcm(n, 5), pcm(bucket - n, 0)]))


@given(st.lists(st.integers(0, 80), max_size=20), st.integers(0, 20))
def test_the_window_is_all_audio_in_order_however_often_it_is_looked_at(sizes: list[int], look_at: int):
    stream, everything = Stream(400), np.zeros(0, np.int16)
    for i, n in enumerate(sizes):
        fresh = np.arange(len(everything), len(everything) + n).astype(np.int16)
        if len(everything) + n > 400:
            with pytest.raises(WindowFull):
                stream.append(fresh)
            continue
        stream.append(fresh)
        everything = np.concatenate([everything, fresh])
        if i == look_at:
            stream.window(BUCKETS)
        assert stream.n_samples == len(everything)
    window = stream.window(BUCKETS)
    np.testing.assert_array_equal(window[: len(everything)], everything)
    assert not window[len(everything) :].any()


def test_a_window_that_was_given_out_does_not_change_later():
    stream = Stream(400)
    stream.append(pcm(50, 1))
    stream.append(pcm(50, 2))
    window = stream.window(BUCKETS)
    window[:] = 9
    stream.append(pcm(10, 3))
    np.testing.assert_array_equal(stream.window(BUCKETS)[:110], np.concatenate([pcm(50, 1), pcm(50, 2), pcm(10, 3)]))


def test_a_cleared_stream_is_as_good_as_new():
    stream = Stream(400)
    stream.append(pcm(400))
    stream.clear()
    stream.append(pcm(400, 2))
    np.testing.assert_array_equal(stream.window(BUCKETS), pcm(400, 2))


# --- many streams -----------------------------------------------------------------------------------------------------


def test_streams_are_kept_apart():
    streams = Streams(400, idle_s=10)
    streams.open(1, 0.0, start=True).append(pcm(10))
    streams.open("2", 0.0, start=True).append(pcm(20))
    assert streams.open(1, 1.0, start=False).n_samples == 10
    assert streams.open("2", 1.0, start=False).n_samples == 20


def test_a_start_begins_a_stream_anew():
    streams = Streams(400, idle_s=10)
    streams.open(1, 0.0, start=True).append(pcm(10))
    assert streams.open(1, 1.0, start=True).n_samples == 0
    assert len(streams) == 1


def test_a_stream_that_was_not_started_or_was_closed_is_unknown():
    streams = Streams(400, idle_s=10)
    with pytest.raises(KeyError):
        streams.open(7, 0.0, start=False)
    streams.open(7, 0.0, start=True)
    streams.close(7)
    streams.close(7)
    with pytest.raises(KeyError):
        streams.open(7, 0.0, start=False)
    assert len(streams) == 0


def test_a_sweep_forgets_streams_that_were_idle_for_too_long_and_no_others():
    streams = Streams(400, idle_s=10)
    streams.open("idle", 100.0, start=True)
    streams.open("busy", 100.0, start=True)
    streams.open("busy", 108.0, start=False)
    streams.sweep(110.0)
    assert len(streams) == 2, "just as long as the limit is not too long"
    streams.sweep(111.5)
    assert len(streams) == 1
    assert streams.open("busy", 112.0, start=False)


def test_sweeps_in_quick_succession_look_only_once_a_second():
    streams = Streams(400, idle_s=0.1)
    streams.sweep(100.0)
    streams.open(1, 100.1, start=True)
    streams.sweep(100.9)
    assert len(streams) == 1
    streams.sweep(101.0)
    assert len(streams) == 0


def test_ten_thousand_streams_that_vanish_leave_nothing():
    streams = Streams(400, idle_s=10)
    for i in range(10_000):
        streams.open(i, i / 100, start=True).append(pcm(4))
        streams.sweep(i / 100)
    assert len(streams) <= 1_101
