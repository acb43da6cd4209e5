"""Audio files to samples, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from frontend.batch.files import UnreadableAudio, read_audio


def tone(rate: int, seconds: float = 0.25) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def written(path: Path, samples: np.ndarray, rate: int, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_a_usual_file_keeps_its_rate_and_its_samples(tmp_path: Path, rate: int, subtype: str):
    samples, read_rate = read_audio(written(tmp_path / "a.wav", tone(rate), rate, subtype))
    assert read_rate == rate
    assert samples.dtype == np.int16
    np.testing.assert_allclose(samples / 32768, tone(rate), atol=0.02 if subtype == "ULAW" else 0.0001)


def test_channels_are_mixed_down(tmp_path: Path):
    stereo = np.stack([tone(16_000), np.zeros(4_000, np.float32)], axis=1)
    samples, _ = read_audio(written(tmp_path / "a.flac", stereo, 16_000))
    np.testing.assert_allclose(samples / 32768, tone(16_000) / 2, atol=0.0001)


@pytest.mark.parametrize("rate", [4_000, 96_000])
def test_a_rate_that_the_server_does_not_take_is_resampled(tmp_path: Path, rate: int):
    samples, read_rate = read_audio(written(tmp_path / "a.wav", tone(rate), rate))
    assert read_rate == 16_000
    assert abs(len(samples) - 4_000) < 100
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * 16_000 / len(samples) == pytest.approx(440, abs=5)


def test_what_is_too_loud_for_16_bits_is_clipped(tmp_path: Path):
    samples, _ = read_audio(written(tmp_path / "a.wav", np.array([2.0, -2.0, 0.0], np.float32), 16_000, "FLOAT"))
    assert samples.tolist()[0] == 32767
    assert samples.tolist()[1] in (-32767, -32768)


def test_what_is_no_number_becomes_silence(tmp_path: Path):
    samples, _ = read_audio(written(tmp_path / "a.wav", np.array([np.nan, 0.5, np.nan], np.float32), 16_000, "FLOAT"))
    assert samples.tolist()[0] == samples.tolist()[2] == 0
    assert samples.tolist()[1] == pytest.approx(16_384, abs=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 1000,
        b"hello, this is a note and no recording\n" * 20,
        b"RIFF\x10\x00\x00\x00WAVE",
        b"ID3\x03" + b"\xff" * 100,
    ],
    ids=["empty", "zeros", "note", "cut wav", "cut mp3"],
)
@pytest.mark.parametrize("name", ["a.wav", "a.txt", "a.mp3", "noextension", "a.raw"])
def test_a_file_that_is_no_audio_is_said_to_be_so(tmp_path: Path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableAudio, match=name):
        read_audio(path)


def test_a_file_cut_off_in_its_middle_gives_what_there_is(tmp_path: Path):
    whole = written(tmp_path / "a.wav", tone(16_000, 1.0), 16_000).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    samples, _ = read_audio(tmp_path / "cut.wav")
    assert 7_000 < len(samples) < 9_000


def test_a_video_without_sound_is_said_to_hold_no_audio(tmp_path: Path):
    import av

    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableAudio, match=r"silent\.mp4"):
        read_audio(path)


@pytest.mark.parametrize("name", ["missing.wav", "."])
def test_what_is_no_file_is_said_to_be_missing(tmp_path: Path, name: str):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_audio(tmp_path / name)


def test_no_broken_recording_does_more_than_fail_clearly(shared_speech: Path):
    for path in sorted((shared_speech / "formats" / "hostile").iterdir()):
        try:
            samples, rate = read_audio(path)
        except UnreadableAudio:
            continue
        assert samples.dtype == np.int16
        assert 8_000 <= rate <= 48_000
