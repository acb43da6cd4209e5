"""What a client may send, and how a refusal reads."""

from __future__ import annotations

import pytest

from frontend.audio.format import ENCODINGS, AudioFormat
from frontend.errors import InvalidAudio


def test_the_default_format_is_the_engines_own():
    assert AudioFormat() == AudioFormat("linear16", 16_000, 1)


@pytest.mark.parametrize(
    ("encoding", "channels", "n_bytes"),
    [
        ("linear16", 1, 2),
        ("linear16be", 2, 4),
        ("linear32", 1, 4),
        ("linear16", 2, 4),
        ("float32", 3, 12),
        ("mulaw", 1, 1),
        ("alaw", 16, 16),
    ],
)
def test_a_frame_is_one_sample_of_every_channel(encoding: str, channels: int, n_bytes: int):
    assert AudioFormat(encoding, channels=channels).frame_bytes == n_bytes


@pytest.mark.parametrize("encoding", ["mp17", "LINEAR16", "", "pcm_s16le", "linear16 "])
def test_another_encoding_is_refused_with_a_list_of_those_that_are_taken(encoding: str):
    with pytest.raises(InvalidAudio) as error:
        AudioFormat(encoding)
    assert repr(encoding) in str(error.value)
    assert all(known in str(error.value) for known in ENCODINGS)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_usual_sample_rates_are_taken(rate: int):
    assert AudioFormat(sample_rate=rate).sample_rate == rate


@pytest.mark.parametrize("rate", [-1, 0, 7_999, 48_001, 96_000])
def test_a_rate_out_of_range_is_refused_with_the_range(rate: int):
    with pytest.raises(InvalidAudio, match="8000 to 48000 Hz"):
        AudioFormat(sample_rate=rate)


@pytest.mark.parametrize("channels", [-1, 0, 17])
def test_a_number_of_channels_out_of_range_is_refused_with_the_range(channels: int):
    with pytest.raises(InvalidAudio, match="1 to 16"):
        AudioFormat(channels=channels)


def test_packets_have_two_channels_at_the_most():
    with pytest.raises(InvalidAudio, match="one or two channels"):
        AudioFormat("opus", channels=3)
