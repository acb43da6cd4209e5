"""Recorded noises: what is gathered, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from export.nano.cli import app
from export.nano.corpus import Item
from export.nano.curriculum import Curriculum
from export.nano.examples import Examples
from export.nano.sounds import Sounds, gather

RATE = 16_000


def tone(hz: float, seconds: float, rate: int = 44_100) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sounds between silences, and what is none."""
    kept = tmp_path / "game" / "sounds"
    kept.mkdir(parents=True)
    rest = np.zeros(22_050)
    soundfile.write(kept / "door.ogg", np.stack([np.concatenate([rest, tone(900, 1), rest])] * 2, axis=1), 44_100)
    soundfile.write(kept / "step.wav", np.concatenate([tone(300, 0.2), rest]), 44_100)
    soundfile.write(kept / "silence.wav", rest, 44_100)
    soundfile.write(kept / "click.wav", tone(300, 0.01), 44_100)
    soundfile.write(kept / "empty.wav", rest[:0], 44_100)
    (kept / "broken.ogg").write_bytes(b"OggS and nothing else")
    (kept / "readme.txt").write_text("no sound")
    for name in ("music", "voices"):
        (kept / name).mkdir()
        soundfile.write(kept / name / "a.wav", tone(440, 1), 44_100)
    soundfile.write(kept / "hen_desc_de.ogg", tone(440, 1), 44_100)
    return tmp_path / "game"


def test_sounds_are_gathered_without_silence_speech_and_music(folder: Path, tmp_path: Path, caplog):
    assert gather(tmp_path / "out", [folder]) == 2
    assert "broken.ogg" in caplog.text
    door, step = np.split(np.fromfile(tmp_path / "out" / "sounds.pcm", np.int16), [-round(0.2 * RATE)])
    assert len(door) == pytest.approx(RATE, abs=RATE // 20)
    assert np.abs(np.fft.rfft(door)).argmax() * RATE / len(door) == pytest.approx(900, abs=5)
    assert np.abs(np.fft.rfft(step)).argmax() * RATE / len(step) == pytest.approx(300, abs=10)
    assert np.abs(door).max() == np.abs(step).max() == 32767


def test_noise_made_of_sounds_is_as_long_and_as_loud_as_asked(folder: Path, tmp_path: Path):
    gather(tmp_path / "out", [folder])
    sounds, r = Sounds(tmp_path / "out"), np.random.default_rng(0)
    made = [sounds.noise(r, n) for n in (1, 700, RATE, 5 * RATE) for _ in range(20)]
    assert {len(m) for m in made} == {1, 700, RATE, 5 * RATE}
    assert all(m.dtype == np.float32 and np.isfinite(m).all() for m in made)
    assert [np.sqrt(np.mean(m**2)) for m in made] == pytest.approx([1.0] * len(made), abs=1e-3)
    assert len({m.tobytes() for m in made[-20:]}) == 20


def test_speech_is_heard_before_sounds_where_there_are_any(folder: Path, tmp_path: Path):
    np.zeros(2 * RATE, np.int16).tofile(tmp_path / "said.pcm")
    silent = Item(tmp_path / "said.pcm", 0, 2 * RATE, "Nothing to hear.", "nobody:x", [], [])
    gather(tmp_path / "out", [folder])

    def coloured(sounds: Sounds, share: float) -> int:
        """In how many of a hundred examples the noise is that of a generator rather than two tones."""
        c, found = Curriculum(distort=2.0, sounds=share, joined=0.0, quietest_db=0, noisy=1.0), 0
        for seed in range(100):
            audio = Examples([], sounds).made_of(np.random.default_rng(seed), silent, [silent], [silent], c).audio
            power = np.abs(np.fft.rfft(audio)) ** 2
            found += bool(np.sort(power)[-len(power) // 100 :].sum() < 0.8 * power.sum())
        return found

    some, none = Sounds(tmp_path / "out"), Sounds(tmp_path / "nothing")
    assert (len(some), len(none)) == (2, 0)
    assert coloured(some, 1.0) < 40
    assert min(coloured(some, 0.0), coloured(none, 1.0)) > 90


def test_a_folder_without_sounds_says_what_to_do(tmp_path: Path):
    result = CliRunner().invoke(app, ["sounds", "--folder", str(tmp_path), "--work", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "docs/models.md" in result.output
