"""Silero re-shaped for streams says what faster-whisper's own says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from faster_whisper.vad import SileroVADModel

from export import silero
from export.silero import FRAME, STATES
from tests.export.checkpoints import local_session
from tests.export.recordings import read

RECORDINGS = ["speakers/silero_test.wav", "english/jfk_16k.wav", "noise/noise/noise5.wav"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ort.InferenceSession:
    path = tmp_path_factory.mktemp("silero") / "model.onnx"
    silero.graph(silero.asset()).save(path)
    return local_session(path)


@pytest.fixture(scope="module")
def original() -> SileroVADModel:
    return SileroVADModel(str(silero.asset()))


def zeros(batch: int = 1) -> dict[str, np.ndarray]:
    return {f"state_{n}": np.zeros((batch, size), np.float32) for n, size in STATES.items()}


def step(session: ort.InferenceSession, audio: np.ndarray, state: dict) -> tuple[np.ndarray, dict]:
    """(B, 512 k) to probabilities (B, k) and the next state."""
    names = ["probabilities", *(f"next_{n}" for n in STATES)]
    probabilities, *after = session.run(names, {"audio": audio, **state})
    return probabilities, {f"state_{n}": value for n, value in zip(STATES, after, strict=True)}


def frames(audio: np.ndarray, seconds: float = 20) -> np.ndarray:
    n = min(len(audio), round(seconds * 16_000)) // FRAME
    return audio[: n * FRAME]


def reference(model: SileroVADModel, audio: np.ndarray) -> np.ndarray:
    """One frame more goes in and is dropped: faster-whisper zeroes the last 64 samples of the audio it is given."""
    longer = np.concatenate([audio, np.zeros(FRAME, np.int16)]).astype(np.float32) / 32768
    return model(longer).reshape(-1)[:-1]


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest, shared_speech: Path) -> np.ndarray:
    return frames(read(shared_speech / request.param))


def test_the_probabilities_of_a_recording_are_those_of_faster_whisper(recording, exported, original):
    found, _ = step(exported, recording[None], zeros())
    np.testing.assert_allclose(found[0], reference(original, recording), atol=1e-4, rtol=0)


def test_speech_is_told_from_silence_without_any_recording_at_hand(speak, exported, original):
    said = speak("Please open the window in the kitchen.").audio
    audio = frames(np.concatenate([np.zeros(16_000, np.int16), said, np.zeros(16_000, np.int16)]))
    found, _ = step(exported, audio[None], zeros())
    np.testing.assert_allclose(found[0], reference(original, audio), atol=1e-4, rtol=0)
    assert found[0, :25].max() < 0.3
    assert found[0].max() > 0.9


@pytest.mark.parametrize("chunk", [1, 3, 7, 31])
def test_chunking_does_not_change_the_probabilities(chunk: int, recording, exported, original):
    state, out = zeros(), []
    for i in range(0, len(recording), chunk * FRAME):
        probabilities, state = step(exported, recording[None, i : i + chunk * FRAME], state)
        out.append(probabilities[0])
    np.testing.assert_allclose(np.concatenate(out), reference(original, recording), atol=1e-4, rtol=0)


def test_streams_in_one_batch_do_not_touch_each_other(shared_speech: Path, exported):
    audio = np.stack([frames(read(shared_speech / name), 4) for name in ("english/jfk_16k.wav", *RECORDINGS)])
    audio[0] = 0  # a silent one among them
    state, out = zeros(len(audio)), []
    for i in range(0, audio.shape[1], 5 * FRAME):
        probabilities, state = step(exported, audio[:, i : i + 5 * FRAME], state)
        out.append(probabilities)
    together = np.concatenate(out, axis=1)
    alone = np.concatenate([step(exported, one[None], zeros())[0] for one in audio])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=0)
