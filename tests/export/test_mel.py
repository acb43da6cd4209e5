"""Both log-mels, the one of training and the one inside the encoder's graph, against faster-whisper's extractor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from export.graph import FLOAT, INT16, Graph
from export.nano.features import log_mel
from export.whisper import _log_mel
from tests.export.recordings import WINDOW, noises, padded, read

TOLERANCE = 1e-4
RECORDINGS = [
    "english/jfk_16k.wav",
    "english/1089-134691-0001.flac",
    "english/arctic_a0024.wav",
    "english/harvard_spk1_snt1.wav",
    "speakers/silero_test.wav",
    "speakers/tst01.wav",
    "noise/noise/noise5.wav",
]
Mel = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module", params=[80, 128])
def n_mels(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def in_numpy(n_mels: int) -> Mel:
    return lambda audio: log_mel(audio.astype(np.float32) / 32768, n_mels)


@pytest.fixture(scope="module")
def in_graph(n_mels: int) -> Mel:
    g = Graph("log_mel")
    audio = g.input("audio", ["batch", "samples"], INT16)
    g.output(g.op("Transpose", _log_mel(g, audio, n_mels), perm=[0, 2, 1]), "mel", ["batch", n_mels, "frames"], FLOAT)
    session = ort.InferenceSession(g.build().SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda audio: session.run(["mel"], {"audio": audio[None]})[0][0]


@pytest.fixture(scope="module")
def reference(n_mels: int) -> Mel:
    extractor = FeatureExtractor(feature_size=n_mels)
    return lambda audio: extractor(audio.astype(np.float32) / 32768, padding=0)


def _agree(audio: np.ndarray, mel: Mel, reference: Mel, tolerance: float = TOLERANCE) -> None:
    expected = reference(audio)
    assert expected.shape[1] == len(audio) // 160
    np.testing.assert_allclose(mel(audio), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("recording", RECORDINGS)
def test_both_log_mels_of_a_recording_are_those_of_faster_whisper(
    recording: str, shared_speech: Path, in_numpy: Mel, in_graph: Mel, reference: Mel
):
    audio = padded(read(shared_speech / recording))
    _agree(audio, in_numpy, reference)
    _agree(audio, in_graph, reference)


@pytest.mark.parametrize("name", list(noises()))
def test_both_log_mels_of_synthetic_sounds_are_those_of_faster_whisper(
    name: str, in_numpy: Mel, in_graph: Mel, reference: Mel
):
    audio = noises()[name]
    _agree(audio, in_numpy, reference)
    _agree(audio, in_graph, reference)


def test_both_log_mels_of_synthetic_speech_are_those_of_faster_whisper(speak, in_numpy: Mel, in_graph: Mel, reference: Mel):
    audio = padded(speak("Please open the window in the kitchen, it is getting warm.").audio)
    _agree(audio, in_numpy, reference)
    _agree(audio, in_graph, reference)


@pytest.mark.parametrize("seconds", [1, 3, 12])
def test_short_windows_agree_too(seconds: int, in_numpy: Mel, in_graph: Mel, reference: Mel):
    audio = noises()["gaussian"][: seconds * 16_000]
    _agree(audio, in_numpy, reference)
    _agree(audio, in_graph, reference)


@pytest.mark.parametrize("hertz", [50, 440, 3000])
def test_a_loud_tone_over_faint_noise_costs_no_more_than_float32_must(
    hertz: int, in_numpy: Mel, in_graph: Mel, reference: Mel
):
    """The worst case: a float32 DFT leaves the tone's rounding in the bins of the noise, 60 dB below it."""
    r = np.random.default_rng(0)
    tone = 30_000 * np.sin(2 * np.pi * hertz * np.arange(WINDOW) / 16_000)
    audio = np.clip(tone + 20 * r.normal(size=WINDOW), -32768, 32767).astype(np.int16)
    _agree(audio, in_numpy, reference, tolerance=1e-3)
    _agree(audio, in_graph, reference, tolerance=1e-3)


def test_each_window_of_a_batch_is_normalised_by_its_own_peak(n_mels: int, in_graph: Mel):
    loud, faint = noises()["full scale"][:16_000], noises()["one bit"][:16_000]
    g = Graph("log_mel")
    audio = g.input("audio", ["batch", "samples"], INT16)
    g.output(g.op("Transpose", _log_mel(g, audio, n_mels), perm=[0, 2, 1]), "mel", ["batch", n_mels, "frames"], FLOAT)
    session = ort.InferenceSession(g.build().SerializeToString(), providers=["CPUExecutionProvider"])
    both = session.run(["mel"], {"audio": np.stack([loud, faint])})[0]
    np.testing.assert_allclose(both[0], in_graph(loud), atol=1e-6)
    np.testing.assert_allclose(both[1], in_graph(faint), atol=1e-6)
