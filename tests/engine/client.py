"""Requests to the models of a Triton, with every flag and input in the test's hands."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Sequence

import numpy as np

from frontend.inference.engine import TritonEngine
from frontend.inference.triton import OUTPUTS as ASKED
from frontend.inference.triton import Tensors
from frontend.speech.events import Decode, Hypothesis, RunAsr

OUTPUTS = (*ASKED, "window_samples")
NOTHING = np.zeros(0, np.int16)
FRAME = 512


async def asr(
    engine: TritonEngine,
    sequence: int,
    command: Decode,
    audio: np.ndarray = NOTHING,
    *,
    start: bool = False,
    end: bool = False,
    prefix: list[int] | None = None,
    **strings: str,
) -> Tensors:
    """One request of `whisper_nano`."""
    inputs = {"audio": audio[None], "command": np.array([[command]], np.int32)}
    if prefix is not None:
        inputs["prefix"] = np.array([prefix], np.int32)
    inputs |= {name: np.array([[value.encode()]], np.object_) for name, value in strings.items()}
    return await engine.servers[0].infer("whisper_nano", inputs, OUTPUTS, sequence, start=start, end=end)


async def vad(
    engine: TritonEngine, sequence: int, audio: np.ndarray, *, start: bool = False, end: bool = False
) -> np.ndarray:
    """One request of `silero_vad`: the probability of each frame."""
    found = await engine.servers[0].infer(
        "silero_vad", {"audio": audio[None]}, ["probabilities"], sequence, start=start, end=end
    )
    return found["probabilities"].reshape(-1)


def alike(found: Sequence[float], expected: Sequence[float]) -> bool:
    """Speech probabilities of a stream that went on warm: one second of audio stands for all that was heard before."""
    error = np.abs(np.asarray(found) - np.asarray(expected))
    return len(found) == len(expected) and float(error.mean()) < 0.05 and float(error.max()) < 0.25


def tokens(answer: Tensors) -> list[int]:
    return answer["tokens"].reshape(-1).tolist()


def text(answer: Tensors) -> str:
    return answer["text"].reshape(-1)[0].decode()


async def final(engine: TritonEngine, audio: np.ndarray) -> Hypothesis:
    """A window in one request of a stream of its own."""
    stream = engine.asr_stream("nano", "en")
    result = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)
    await stream.close()
    return result


def metric(url: str, name: str) -> float:
    """The sum of a metric's samples over its labels."""
    with urllib.request.urlopen(url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))


def same(a: Hypothesis, b: Hypothesis) -> None:
    """Equal but for timings and float noise: a batch of another size sums in another order."""
    assert (a.text, a.tokens) == (b.text, b.tokens)
    assert [(w.text, w.start, w.end) for w in a.words] == [(w.text, w.start, w.end) for w in b.words]
    np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-3)
    np.testing.assert_allclose(a.no_speech_probability, b.no_speech_probability, atol=1e-3)


def cut(audio: np.ndarray, seed: int, frames: int = 12) -> list[np.ndarray]:
    """Random pieces of whole frames."""
    r = np.random.default_rng(seed)
    pieces, at = [], 0
    while at < len(audio):
        n = int(r.integers(1, frames + 1)) * FRAME
        pieces.append(audio[at : at + n])
        at += n
    return pieces
