"""Test sets heard in noise and over a telephone line, and digits one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from export.nano import conditions


@pytest.mark.parametrize("snr_db", [10.0, 0.0])
def test_the_power_of_noise_is_as_far_below_that_of_speech_as_was_asked(tmp_path: Path, speak, snr_db: float):
    r = np.random.default_rng(1)
    soundfile.write(tmp_path / "hum.wav", 0.02 * r.standard_normal(8000), 8000)  # shorter, of another rate
    soundfile.write(tmp_path / "nothing.wav", np.zeros(8000), 16000)
    said = conditions.Clip(speak("The train to London leaves at nine.").audio // 4, "", "")
    (heard,) = conditions.in_noise([said], tmp_path, snr_db)
    speech = said.audio().astype(np.float64)
    noise = heard.audio() - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.1)


def test_a_telephone_line_carries_nothing_above_four_kilohertz():
    tone = np.rint(8000 * np.sin(2 * np.pi * np.outer([1000, 6000], np.arange(16000)) / 16000)).astype(np.int16)
    low, high = (
        np.std(c.audio()[1000:-1000]) for c in conditions.over_telephone([conditions.Clip(t, "", "") for t in tone])
    )
    assert low == pytest.approx(8000 / np.sqrt(2), rel=0.05)
    assert high < 100


def test_digits_are_told_by_their_names_and_lie_between_silence(tmp_path: Path):
    soundfile.write(tmp_path / "7_jackson_0.wav", 0.5 * np.ones(4000), 8000)
    soundfile.write(tmp_path / "other.wav", np.ones(100), 8000)
    (seven,) = conditions.digits(tmp_path)
    assert (seven.text, seven.voice) == ("seven", "fsdd:jackson")
    assert len(seven.audio()) == 8000 + 8000 + 8000
    assert not np.any(seven.audio()[:7000])
    assert not np.any(seven.audio()[-7000:])
