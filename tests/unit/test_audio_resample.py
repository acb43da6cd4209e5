"""Client audio at any rate to the engine's 16 kHz int16."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.audio.format import ENGINE_RATE, AudioFormat
from frontend.audio.resample import AudioInput
from tests.unit.strategies import cuts, pieces

OTHER_RATES = [8_000, 11_025, 22_050, 44_100, 48_000]


def tone(rate: int, seconds: float, hertz: float = 440.0, level: float = 0.5) -> bytes:
    """linear16."""
    t = np.arange(round(seconds * rate)) / rate
    return np.rint(level * 32767 * np.sin(2 * np.pi * hertz * t)).astype("<i2").tobytes()


def convert(audio_format: AudioFormat, *messages: bytes) -> np.ndarray:
    source = AudioInput(audio_format)
    return np.concatenate([*(source.feed(m) for m in messages), source.flush()])


def loudest_frequency(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax()) * ENGINE_RATE / len(samples)


@given(st.lists(st.integers(-32768, 32767), max_size=100))
def test_audio_at_the_engines_rate_passes_unchanged(samples: list[int]):
    sent = np.array(samples, "<i2")
    np.testing.assert_array_equal(convert(AudioFormat(), sent.tobytes()), sent)


@pytest.mark.parametrize("rate", OTHER_RATES)
@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.5])
def test_as_much_time_comes_out_as_went_in(rate: int, seconds: float):
    out = convert(AudioFormat(sample_rate=rate), tone(rate, seconds))
    assert out.dtype == np.int16
    assert abs(len(out) - seconds * ENGINE_RATE) <= 3


@pytest.mark.parametrize("rate", OTHER_RATES)
@pytest.mark.parametrize("hertz", [200.0, 1000.0, 3000.0])
def test_a_tone_keeps_its_frequency_and_loudness(rate: int, hertz: float):
    out = convert(AudioFormat(sample_rate=rate), tone(rate, 1.0, hertz))
    assert abs(loudest_frequency(out) - hertz) <= 2
    middle = out[4_000:12_000].astype(float)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 * 32767 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_what_lies_above_the_engines_band_does_not_fold_into_speech(rate: int):
    out = convert(AudioFormat(sample_rate=rate), tone(rate, 1.0, 12_000.0))
    assert np.abs(out[2_000:-2_000]).max() < 100


@settings(max_examples=25, deadline=None)
@given(rate=st.sampled_from(OTHER_RATES), draw=st.data())
def test_how_audio_is_cut_into_messages_does_not_change_it(rate: int, draw: st.DataObject):
    audio_format, sent = AudioFormat(sample_rate=rate), tone(rate, 0.4)
    whole = convert(audio_format, sent)
    cut = convert(audio_format, *pieces(sent, draw.draw(cuts(len(sent)))))
    assert abs(len(cut) - len(whole)) <= 1
    n = min(len(cut), len(whole))
    np.testing.assert_allclose(cut[:n], whole[:n], atol=2)


def test_messages_of_one_byte_are_enough():
    sent = tone(8_000, 0.05)
    whole = convert(AudioFormat(sample_rate=8_000), sent)
    by_byte = convert(AudioFormat(sample_rate=8_000), *(sent[i : i + 1] for i in range(len(sent))))
    np.testing.assert_allclose(by_byte, whole, atol=2)


def test_full_scale_audio_is_clipped_rather_than_wrapped_around():
    square = np.where(np.arange(4_800) // 60 % 2, 1.0, -1.0).astype("<f4").tobytes()
    out = convert(AudioFormat("float32", 48_000), square).astype(int)
    # Where a filter overshoots full scale, int16 that wraps would jump to the other sign within one sample.
    halves = out[200:-200].reshape(-1, 20)
    assert all(len(set(np.sign(h[4:-4]))) == 1 for h in halves)


def test_a_flush_gives_what_the_resampler_held_back_and_the_stream_may_go_on():
    source = AudioInput(AudioFormat(sample_rate=48_000))
    for _ in range(3):
        out = np.concatenate([source.feed(tone(48_000, 1.0)), source.flush()])
        assert abs(len(out) - ENGINE_RATE) <= 3
        assert abs(loudest_frequency(out) - 440) <= 2


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_flush_with_nothing_to_give_gives_nothing(rate: int):
    source = AudioInput(AudioFormat(sample_rate=rate))
    assert len(source.flush()) == 0
    assert len(source.flush()) == 0
    assert len(source.feed(b"")) == 0
