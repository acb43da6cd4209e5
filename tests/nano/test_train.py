"""A short training run: it learns, it is saved, and it goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from export.nano import corpus
from export.nano import tokenizer as bpe
from tests.conftest import ROOT

torch = pytest.importorskip("torch", reason="training needs torch; make test installs it")

TEXTS = ["The train to London leaves at nine.", "Four five six.", "Please call me tomorrow.", "It is raining again."]


def test_a_run_learns_is_saved_and_goes_on_where_it_was(tmp_path: Path, speak):
    from export.nano.train import Plan, train

    corpus.write_shard(tmp_path / "data", "shard-000", [speak(t) for t in TEXTS])
    plan = {"warmup": 2, "peak": 2e-3, "decay": 0.1, "vocab": 300, "threads": 1, "save_every": 4, "log_every": 8}
    train(tmp_path / "data", tmp_path / "run", Plan(steps=8, **plan), [])
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert saved["step"] == 8
    train(tmp_path / "data", tmp_path / "run", Plan(begin=8, steps=16, **plan), [])
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [8, 16]
    assert rows[1]["att"] < rows[0]["att"] * 0.9
    again = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert again["step"] == 16
    assert adamw_steps(saved) == {8}, "what AdamW remembers"
    assert adamw_steps(again) == {16}, "goes on from what was saved"


def adamw_steps(saved: dict[str, Any]) -> set[int]:
    """How many steps the AdamW of a run that was saved has taken."""
    return {int(state["step"]) for state in saved["optimisers"][-1]["state"].values()}


def test_a_cpu_without_bf16_trains_in_fp32_and_goes_on_with_what_another_has_begun(
    tmp_path: Path, speak, monkeypatch: pytest.MonkeyPatch
):
    from export.nano import train as training
    from export.nano.curriculum import Curriculum
    from export.nano.data import CHARS, phone_table
    from export.nano.model import Dims, Whisper

    data, run = tmp_path / "data", tmp_path / "run"
    corpus.write_shard(data, "shard-000", [speak(t) for t in TEXTS])
    tokens, phones = bpe.train(TEXTS, 300), phone_table(corpus.read(data))
    bpe.save(tokens, run / "tokenizer")
    (run / "vocabulary.json").write_text(json.dumps({"phones": phones}))
    small = Whisper(Dims(tokens.get_vocab_size(), d_model=64, encoder_layers=1), len(phones), len(CHARS) + 1)
    torch.save({"model": small.state_dict(), "step": 0}, run / "last.pt")
    stages = [(0, Curriculum(max_s=4, batch_s=8, joined=0))]
    found: list[tuple[int, set[int]]] = []
    for steps, bf16 in ((1, True), (2, False), (3, False)):
        monkeypatch.setattr(training, "computes_in_bf16", lambda device, bf16=bf16: bf16)
        training.train(data, run, training.Plan(steps=steps, threads=1), [], stages=stages)
        saved = torch.load(run / "last.pt", weights_only=True)
        assert saved["step"] == steps
        found.append((len(saved["optimisers"]), adamw_steps(saved)))
    assert found == [(2, {1}), (1, {1}), (1, {2})], "Muon and AdamW, then AdamW alone, begun anew and gone on with"


def test_a_run_lasts_as_many_minutes_as_asked(tmp_path: Path, speak):
    from export.nano.curriculum import Curriculum
    from export.nano.train import Plan, train

    corpus.write_shard(tmp_path / "data", "shard-000", [speak(t) for t in TEXTS])
    plan = Plan(steps=10**9, minutes=0.1, vocab=300, threads=1, workers=2, times=2, log_every=1, save_every=10**6)
    began = time.monotonic()
    train(tmp_path / "data", tmp_path / "run", plan, [], stages=[(0, Curriculum(max_s=4, batch_s=8, joined=0))])
    assert time.monotonic() - began >= 6
    rates = [json.loads(line)["lr"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == len(rates) >= 2


def test_the_learning_rate_warms_up_stays_and_decays():
    from export.nano.train import Plan

    plan = Plan(begin=100, steps=200, warmup=10, decay=0.5, peak=1.0)
    assert [round(plan.rate(s, plan.done(s, 0)), 3) for s in (100, 109, 120, 149, 175, 199)] == [
        0.1,
        1.0,
        1.0,
        1.0,
        0.5,
        0.02,
    ]
    by_the_clock = Plan(minutes=2, warmup=10, decay=0.5, peak=1.0)
    assert [round(by_the_clock.rate(50, by_the_clock.done(50, s)), 3) for s in (10, 59, 90, 119)] == [1.0, 1.0, 0.5, 0.02]


def test_a_packed_checkpoint_is_trained_on(tmp_path: Path, speak):
    from export.nano.curriculum import Curriculum
    from export.nano.model import Dims, Whisper
    from export.nano.package import load, package, unpack
    from export.nano.train import Plan, train

    data, run, packed = (tmp_path / name for name in ("data", "run", "packed"))
    corpus.write_shard(data, "shard-000", [speak(t) for t in TEXTS])
    tokens = bpe.train(TEXTS, 300)
    bpe.save(tokens, tmp_path / "tokenizer")
    model = Whisper(Dims(tokens.get_vocab_size(), encoder_layers=3))
    torch.save({"model": model.state_dict(), "step": 20}, tmp_path / "weights.pt")
    package(tmp_path / "weights.pt", tmp_path / "tokenizer", packed, alignment_heads=[(1, 0)])
    unpack(packed, data, run, 20)
    for (name, was), now in zip(model.state_dict().items(), load(run / "last.pt").state_dict().values(), strict=True):
        assert torch.allclose(was, now, atol=2e-3), name
    train(data, run, Plan(begin=20, steps=22, threads=1, log_every=1), [], stages=[(0, Curriculum(max_s=4, batch_s=8))])
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 22
    assert json.loads((run / "log.jsonl").read_text().splitlines()[0])["step"] == 21


def test_two_runs_meet(tmp_path: Path, speak):
    from export.nano.curriculum import Curriculum
    from export.nano.train import Plan, train_pair

    data, run = tmp_path / "data", tmp_path / "run"
    corpus.write_shard(data, "shard-000", [speak(t) for t in TEXTS])
    train_pair(
        data,
        run,
        Plan(steps=4, vocab=300, threads=1, save_every=2, log_every=1),
        [],
        stages=[(0, Curriculum(max_s=4, batch_s=8))],
    )
    for folder in (run, tmp_path / "run-2"):
        assert torch.load(folder / "last.pt", weights_only=True)["step"] >= 4
    assert [json.loads(row)["step"] for row in (run / "log.jsonl").read_text().splitlines()][:2] == [1, 2]
    assert json.loads((tmp_path / "run-2" / "log.jsonl").read_text().splitlines()[0])["step"] == 3


def test_weights_are_averaged_of_the_last_checkpoints_or_of_those_named(tmp_path: Path):
    from export.nano.package import average, kept

    for run, steps in (("run", (900, 1000, 2000)), ("run-2", (900, 2000))):
        (tmp_path / run).mkdir()
        for step in steps:
            weights = torch.full((2, 2), float(step) + (run == "run-2"))
            torch.save({"model": {"w": weights}, "step": step}, tmp_path / run / f"step-{step}.pt")
    assert [p.name for p in kept(tmp_path, [], 3)] == ["step-1000.pt", "step-2000.pt", "step-2000.pt"]
    both = kept(tmp_path, [2000, 900], 1)
    assert {str(p.relative_to(tmp_path)) for p in both} == {
        f"{r}/step-{s}.pt" for r in ("run", "run-2") for s in (900, 2000)
    }
    average(both, tmp_path / "mean.pt")
    mean = torch.load(tmp_path / "mean.pt", weights_only=True)
    assert torch.equal(mean["model"]["w"], torch.full((2, 2), 1450.5))
    assert mean["step"] == 2000
    with pytest.raises(FileNotFoundError, match=r"no run has kept step 1500, but \[900, 900, 1000, 2000, 2000\]"):
        kept(tmp_path, [1500, 2000], 1)


PAIR = """
import sys
from pathlib import Path
from export.nano.curriculum import Curriculum
from export.nano.train import Plan, train_pair

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    plan = Plan(steps=100_000, vocab=300, threads=1, save_every=2, log_every=1)
    train_pair(folder / "data", folder / "run", plan, [], stages=[(0, Curriculum(max_s=4, batch_s=8))])
"""


def test_both_runs_end_with_the_command(tmp_path: Path, speak):
    corpus.write_shard(tmp_path / "data", "shard-000", [speak(t) for t in TEXTS])
    (tmp_path / "pair.py").write_text(PAIR)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command_line = [sys.executable, str(tmp_path / "pair.py"), str(tmp_path)]
    with (tmp_path / "told").open("w") as told:
        command = subprocess.Popen(command_line, env=environment, stderr=told)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run-2" / "log.jsonl").exists():
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        below = psutil.Process(command.pid).children(recursive=True)
        assert len(below) >= 2
        command.terminate()
        assert command.wait(30) != 0
        _, alive = psutil.wait_procs(below, 30)
        assert alive == []
        assert "'step': 3" in (tmp_path / "told").read_text(), "who waits sees how far it is"
    finally:
        command.kill()
