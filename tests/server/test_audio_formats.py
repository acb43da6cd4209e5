"""The same speech in every format that is taken; and bytes that are no speech in any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.server.tools import hear, seconds, word_error

TEXT = "The meeting is on Tuesday, the third of May."
Encoder = Callable[[np.ndarray], bytes]


def as_float(audio: np.ndarray) -> np.ndarray:
    return audio.astype(np.float32) / 32768


def as_linear16(audio: np.ndarray) -> bytes:
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


def at(rate: int, audio: np.ndarray) -> np.ndarray:
    return soxr.resample(as_float(audio), 16000, rate)


def as_mulaw(audio: np.ndarray) -> bytes:
    """ITU-T G.711 mu-law of -1..1."""
    linear = np.clip(np.rint(audio * 32768), -32635, 32635).astype(np.int32)
    biased = np.abs(linear) + 132
    exponent = np.floor(np.log2(biased)).astype(np.int32) - 7
    mantissa = biased >> (exponent + 3) & 15
    return (~(np.where(linear < 0, 128, 0) | exponent << 4 | mantissa) & 255).astype(np.uint8).tobytes()


def as_alaw(audio: np.ndarray) -> bytes:
    """ITU-T G.711 A-law of -1..1."""
    linear = np.clip(np.rint(audio * 32768), -32767, 32767).astype(np.int32)
    magnitude = np.abs(linear) >> 4
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    mantissa = np.where(exponent == 0, magnitude, magnitude >> np.maximum(exponent - 1, 0)) & 15
    exponent += (magnitude >= 16) & (exponent == 0)
    mantissa = np.where(exponent == 0, magnitude, magnitude >> np.maximum(exponent - 1, 0)) & 15
    return ((np.where(linear < 0, 0, 128) | exponent << 4 | mantissa) ^ 0x55).astype(np.uint8).tobytes()


def interleaved(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, axis=1).reshape(-1)


SAME_SAMPLES: dict[str, tuple[dict[str, object], Encoder]] = {
    "float32": ({"encoding": "float32"}, lambda a: as_float(a).tobytes()),
    "float32 stereo": (
        {"encoding": "float32", "channels": 2},
        lambda a: interleaved(as_float(a), as_float(a)).tobytes(),
    ),
    "linear16 on 16 channels": ({"channels": 16}, lambda a: interleaved(*[a] * 16).tobytes()),
}


@pytest.mark.parametrize(("query", "encode"), SAME_SAMPLES.values(), ids=SAME_SAMPLES.keys())
async def test_the_same_samples_in_another_encoding_give_the_same_words(server, speak, query: dict, encode: Encoder):
    audio = speak(TEXT).audio
    expected = await hear(server, audio, interim_results=False)
    got = await hear(server, encode(audio), 3333, interim_results=False, **query)
    assert [f["words"] for f in got.finals()] == [f["words"] for f in expected.finals()]
    assert got.text()


@pytest.mark.parametrize("chunk", [31, 333, 1023, 4097, 60_001])
async def test_how_the_bytes_are_cut_into_frames_changes_nothing(server, speak, chunk: int):
    audio = speak(TEXT).audio
    expected = await hear(server, audio, interim_results=False)
    got = await hear(server, audio, chunk, interim_results=False)
    assert [f["words"] for f in got.finals()] == [f["words"] for f in expected.finals()]


NEARLY_THE_SAME: dict[str, tuple[dict[str, object], Encoder]] = {
    "mu-law": ({"encoding": "mulaw"}, lambda a: as_mulaw(as_float(a))),
    "A-law": ({"encoding": "alaw"}, lambda a: as_alaw(as_float(a))),
    "mu-law at 8 kHz": ({"encoding": "mulaw", "sample_rate": 8000}, lambda a: as_mulaw(at(8000, a))),
    "A-law at 8 kHz": ({"encoding": "alaw", "sample_rate": 8000}, lambda a: as_alaw(at(8000, a))),
    "linear16 at 8 kHz": ({"sample_rate": 8000}, lambda a: as_linear16(at(8000, a))),
    "linear16 at 22.05 kHz": ({"sample_rate": 22050}, lambda a: as_linear16(at(22050, a))),
    "linear16 at 44.1 kHz": ({"sample_rate": 44100}, lambda a: as_linear16(at(44100, a))),
    "float32 stereo at 48 kHz": (
        {"encoding": "float32", "sample_rate": 48000, "channels": 2},
        lambda a: interleaved(at(48000, a), at(48000, a)).astype("<f4").tobytes(),
    ),
    "linear16 at 48 kHz, one channel silent": (
        {"sample_rate": 48000, "channels": 2},
        lambda a: as_linear16(interleaved(at(48000, a), np.zeros(len(a) * 3, np.float32))),
    ),
}


@pytest.mark.parametrize(("query", "encode"), NEARLY_THE_SAME.values(), ids=NEARLY_THE_SAME.keys())
async def test_a_format_that_loses_little_gives_nearly_the_same_words(server, speak, query: dict, encode: Encoder):
    audio = speak(TEXT).audio
    expected = await hear(server, audio)
    got = await hear(server, encode(audio), 3201, **query)
    telephone = query.get("sample_rate") == 8000
    assert word_error(got.text(), expected.text()) <= (0.8 if telephone else 0.4)
    assert abs(got.messages[-1]["audio_s"] - seconds(audio)) < 0.01
    heard, meant = got.finals()[-1], expected.finals()[-1]
    assert abs(heard["start"] + heard["duration"] - meant["start"] - meant["duration"]) < 0.2


@pytest.mark.parametrize(("name", "query"), [("speech.ulaw", "mulaw"), ("speech.alaw", "alaw"), ("speech.raw", "linear16")])
async def test_telephone_recordings_give_words(server, shared_speech: Path, name: str, query: str):
    data = (shared_speech / "formats" / "telephone" / name).read_bytes()
    c = await hear(server, data, 160, encoding=query, sample_rate=8000)
    assert c.text()
    n_bytes = 2 if query == "linear16" else 1
    assert abs(c.messages[-1]["audio_s"] - len(data) / n_bytes / 8000) < 0.02


TAKEN_FOR = [
    {"encoding": "linear16"},
    {"encoding": "float32", "sample_rate": 48000, "channels": 3},
    {"encoding": "mulaw", "sample_rate": 8000, "vad_enabled": False},
]


@pytest.mark.parametrize("query", TAKEN_FOR, ids=lambda q: q["encoding"])
async def test_any_file_taken_for_raw_samples_gives_a_session_that_ends_cleanly(server, shared_speech: Path, query: dict):
    files = sorted((shared_speech / "formats").rglob("*.*"))
    assert len(files) > 70
    for path in files:
        data = path.read_bytes()[: 400_000 if query["encoding"] == "linear16" else 40_000]
        c = await hear(server, data, 30_011, **query)
        assert c.messages[-1]["reason"] == "client closed the stream", path.name
        assert not [m for m in c.messages if m["type"] == "error"], path.name
