"""Raw samples in any cut, in every encoding, good or broken."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.format import BYTES_PER_SAMPLE, AudioFormat
from frontend.audio.pcm import PcmDecoder
from tests.unit.strategies import cuts, pieces

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # gone in 3.13, which the project does not run on yet
    import audioop

ALL_CODES = bytes(range(256))


def decode(audio_format: AudioFormat, *messages: bytes) -> np.ndarray:
    decoder = PcmDecoder(audio_format)
    return np.concatenate([np.zeros(0, np.float32), *(decoder.decode(m) for m in messages)])


@given(
    encoding=st.sampled_from(sorted(BYTES_PER_SAMPLE)),
    channels=st.integers(1, 3),
    data=st.binary(max_size=400),
    draw=st.data(),
)
def test_any_cut_of_the_bytes_gives_the_same_samples(encoding: str, channels: int, data: bytes, draw: st.DataObject):
    audio_format = AudioFormat(encoding, channels=channels)
    cut = pieces(data, draw.draw(cuts(len(data))))
    whole = decode(audio_format, data)
    assert len(whole) == len(data) // audio_format.frame_bytes
    np.testing.assert_array_equal(decode(audio_format, *cut), whole)


@given(encoding=st.sampled_from(sorted(BYTES_PER_SAMPLE)), channels=st.integers(1, 3), data=st.binary(max_size=200))
def test_any_bytes_give_finite_float32_samples_within_full_scale(encoding: str, channels: int, data: bytes):
    samples = decode(AudioFormat(encoding, channels=channels), data)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert (np.abs(samples) <= 1.0).all()


@pytest.mark.parametrize(("encoding", "reference"), [("mulaw", audioop.ulaw2lin), ("alaw", audioop.alaw2lin)])
def test_every_g711_code_is_decoded_as_the_standard_library_does(encoding: str, reference):
    expected = np.frombuffer(reference(ALL_CODES, 2), "<i2") / 32768
    np.testing.assert_array_equal(decode(AudioFormat(encoding, 8_000), ALL_CODES), expected.astype(np.float32))


def test_linear16_is_little_endian_and_its_extremes_keep_their_place():
    samples = decode(AudioFormat(), b"\x00\x80\xff\x7f\x01\x00\x00\x01")
    np.testing.assert_array_equal(samples, np.array([-32768, 32767, 1, 256], np.float32) / 32768)


def test_linear16be_is_big_endian_and_linear32_has_twice_the_bits():
    sent = np.array([-32768, 32767, 1, 256])
    expected = (sent / 32768).astype(np.float32)
    np.testing.assert_array_equal(decode(AudioFormat("linear16be"), sent.astype(">i2").tobytes()), expected)
    np.testing.assert_array_equal(decode(AudioFormat("linear32"), (sent << 16).astype("<i4").tobytes()), expected)


def test_what_is_no_number_becomes_silence_and_what_is_too_loud_is_clipped():
    sent = np.array([np.nan, np.inf, -np.inf, 1e30, -7.0, 0.25, -0.0], "<f4").tobytes()
    samples = decode(AudioFormat("float32"), sent)
    np.testing.assert_array_equal(samples, np.array([0, 0, 0, 1, -1, 0.25, 0], np.float32))


def test_channels_are_averaged():
    sent = np.array([[1000, 3000], [-32768, 32767], [5, 5]], "<i2").tobytes()
    np.testing.assert_allclose(decode(AudioFormat(channels=2), sent) * 32768, [2000, -0.5, 5])


def test_an_odd_byte_waits_for_its_other_half():
    decoder = PcmDecoder(AudioFormat())
    assert len(decoder.decode(b"\x34")) == 0
    np.testing.assert_array_equal(decoder.decode(b"\x12\x78") * 32768, [0x1234])
    np.testing.assert_array_equal(decoder.decode(b"\x56") * 32768, [0x5678])


def test_a_frame_of_many_channels_sent_byte_by_byte_is_one_sample():
    sent = np.array([0.1, 0.2, 0.6], "<f4").tobytes()
    decoder = PcmDecoder(AudioFormat("float32", channels=3))
    given_back = [decoder.decode(sent[i : i + 1]) for i in range(len(sent))]
    assert [len(g) for g in given_back] == [0] * 11 + [1]
    assert given_back[-1][0] == pytest.approx(0.3)


def test_an_empty_message_gives_no_samples():
    for encoding in BYTES_PER_SAMPLE:
        assert decode(AudioFormat(encoding, channels=2), b"", b"").shape == (0,)
