"""A whole run on this CPU with a toy: real Triton, real front ends, real load. What it measures means nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.gpu import checkpoint, engine, peer, speech
from bench.gpu.__main__ import main
from bench.gpu.engine import Exported
from bench.gpu.plan import DRY, Target
from bench.gpu.results import Deadline, Results
from bench.load import Clip
from export.nano.evaluate import Recogniser
from export.repository import export_whisper

N_TOKENS = 6


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A made-up checkpoint, and the text it says."""
    folder = tmp_path_factory.mktemp("made") / "whisper-toy"
    return folder, checkpoint.write(folder, checkpoint.SHAPES["toy"], N_TOKENS)


@pytest.fixture(scope="module")
def clips(speak) -> list[Clip]:
    texts = ("The train leaves at three.", "Please open the window.", "It is raining today.", "We need seven eggs.")
    return [Clip(u, t, 1000, len(u) - 1000) for t in texts for u in [speak(t).audio]]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_made_up_checkpoint_says_its_text_whatever_it_hears(toy, precision: str):
    folder, text = toy
    noise = (np.random.default_rng(2).normal(size=(3, 40_000)) * 4000).astype(np.int16)
    recogniser = Recogniser(folder, precision)
    try:
        found = recogniser.transcribe([*noise, np.zeros(16_000, np.int16)], words=True)
        assert [h.tokens for h in found] == [text] * 4
        assert len(set(text)) == N_TOKENS
        assert all(len(h.words) == N_TOKENS for h in found)
    finally:
        recogniser.close()


def test_a_peer_says_it_too(toy, tmp_path: Path):
    folder, text = toy
    peer.convert(folder, tmp_path / "ct2")
    from faster_whisper import WhisperModel

    model = WhisperModel(str(tmp_path / "ct2"), device="cpu", compute_type="float32", cpu_threads=1)
    (segment,) = model.transcribe(np.zeros(48_000, np.float32), **peer.GREEDY, no_speech_threshold=None)[0]
    assert [t for t in segment.tokens if t < 1536] == text


def test_texts_cannot_be_longer_than_there_are_words():
    with pytest.raises(ValueError, match="at most"):
        checkpoint.sentence(10_000)


@pytest.mark.timeout(900)
def test_a_dry_run_measures_every_part_and_the_next_one_nothing_again(
    clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    speech.save(clips, tmp_path / speech.FILE)
    words = ["--device", "cpu", "--dry-run", "--models", "base", "--limit", "900", "--out", str(tmp_path / "out")]
    words += ["--wheels", str(tmp_path)]
    assert main(["run", *words]) == 0, capsys.readouterr().err
    stored = json.loads((tmp_path / "out" / "gpu.json").read_text())
    parts: dict[str, dict[str, Any]] = stored["parts"]
    failed = [(p, k, r["failed"]) for p, rows in parts.items() for k, r in rows.items() if "failed" in r]
    assert [p for p, _, _ in failed] == ["peer"]
    assert failed[0][2].startswith("not converted")
    assert set(parts["sweep base-fp16"]) == {"placement", "encoder 1", "encoder 2", "step plain"}
    assert len(parts["tuning base-fp16"]) == len(DRY.tunings)
    streams = parts["streams base-fp16"]
    assert {"calm", "latency 1", "latency half", *map(str, DRY.streams)} == set(streams)
    for row in streams.values():
        assert row["utterances"] > 0
        assert row["errors"] == []
    assert len(parts["engine"]) == 2 * 2 * len(DRY.batches)
    assert all(row["tokens_per_s"] > 0 for row in parts["engine"].values())
    assert (tmp_path / "out" / "engine.png").exists()
    assert (tmp_path / "out" / "streams.png").exists()
    assert main(["engine", *words]) == 0
    assert json.loads((tmp_path / "out" / "gpu.json").read_text()) == stored


def test_slots_that_do_not_fit_are_halved_until_they_do(
    toy, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = Target("cpu", DRY)
    export_whisper(str(toy[0]), tmp_path / "models", name="toy", tuning=target.tuning())
    whole = Exported.loaded

    @contextmanager
    def small(self: Exported, target: Target, *, max_rows: int, **options: Any) -> Iterator[Any]:
        if max_rows > 1:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9000000000")
        with whole(self, target, max_rows=max_rows, **options) as slots:
            yield slots

    monkeypatch.setattr(Exported, "loaded", small)
    results = Results(tmp_path / "gpu.json")
    engine.measure(target, results, [Exported(tmp_path / "models", "toy", toy[0])], clips, Deadline(100))
    rows = results.part("engine")
    assert rows["toy, 30 s windows, 2"] == rows["toy, own windows, 2"] == {"failed": "out of memory"}
    assert rows["toy, 30 s windows, 1"]["windows_per_s"] > 0
    assert rows["toy, own windows, 1"]["windows_per_s"] > 0


def test_a_part_without_time_left_records_nothing(toy, clips: list[Clip], tmp_path: Path):
    target, results = Target("cpu", DRY), Results(tmp_path / "gpu.json")
    export_whisper(str(toy[0]), tmp_path / "models", name="toy", tuning=target.tuning())
    engine.measure(target, results, [Exported(tmp_path / "models", "toy", toy[0])], clips, Deadline(0))
    assert results.part("engine") == {}
