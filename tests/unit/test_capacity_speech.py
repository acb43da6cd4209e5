"""What the streams of a measurement say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from frontend.capacity.errors import NoSpeech
from frontend.capacity.speech import Clip, enough, loud_part, recorded, script

RATE = 16_000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (8000 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 300 / rate)).astype(np.int16)


def test_recordings_say_themselves_where_speech_is(tmp_path: Path):
    quiet = np.random.default_rng(1).integers(-20, 20, RATE, np.int16)
    soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, tone(1.0), quiet]), RATE)
    (clip,) = recorded(tmp_path)
    assert (clip.speech_start, clip.speech_end, clip.text) == (RATE, 2 * RATE, "")
    assert loud_part(np.zeros(800, np.int16)) == (0, 800)
    assert loud_part(np.zeros(0, np.int16)) == (0, 0)


def test_what_was_said_is_beside_the_file_or_in_a_table(tmp_path: Path):
    for name, rate in (("a.wav", 48_000), ("b.flac", 8_000), ("c.wav", RATE)):
        soundfile.write(tmp_path / name, tone(1.0, rate), rate)
    (tmp_path / "a.txt").write_text("one two\n")
    (tmp_path / "notes.md").write_text("not audio")
    (tmp_path / "transcripts.tsv").write_text("b.flac\tthree\nc.wav\tfour\t160\t8000\n")
    a, b, c = recorded(tmp_path)
    assert [x.text for x in (a, b, c)] == ["one two", "three", "four"]
    assert all(abs(len(x.audio) - RATE) < 50 for x in (a, b, c)), "all are at 16 kHz"
    assert (c.speech_start, c.speech_end) == (160, 8000)


def test_nothing_to_say_tells_what_to_do(tmp_path: Path):
    with pytest.raises(NoSpeech, match="no folder"):
        recorded(tmp_path / "nowhere")
    with pytest.raises(NoSpeech, match="no wav or flac"):
        recorded(tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    with pytest.raises(NoSpeech, match=r"bad\.wav.*take it out"):
        recorded(tmp_path)
    (tmp_path / "bad.wav").unlink()
    soundfile.write(tmp_path / "a.wav", tone(1.0), RATE)
    (tmp_path / "transcripts.tsv").write_text("a.wav\ttext\tsoon\t9\n")
    with pytest.raises(NoSpeech, match=r"transcripts\.tsv.*a\.wav"):
        recorded(tmp_path)


def test_every_stream_says_all_and_begins_with_another():
    clips = [Clip(np.full(RATE * n, n, np.int16), f"s{n}", 160, RATE * n - 160) for n in (1, 2, 3)]
    one, other = script(clips, 0.5), script(clips, 0.5, 4)
    assert [c.text for c in one.clips] == ["s1", "s2", "s3"]
    assert [c.text for c in other.clips] == ["s2", "s3", "s1"]
    assert len(one.audio) == len(other.audio) == RATE * 7.5
    for clip, offset in zip(other.clips, other.offsets, strict=True):
        assert set(other.audio[offset : offset + len(clip.audio)].tolist()) == {int(clip.text[1])}


def test_enough_is_said_for_the_time():
    clips = [Clip(np.zeros(RATE * n, np.int16), f"s{n}", 0, 1) for n in (1, 2)]
    assert [c.text for c in enough(clips, 5.0, 0.5)] == ["s1", "s2", "s1"]
    assert [c.text for c in enough(clips, 1.0, 0.5)] == ["s1"]
