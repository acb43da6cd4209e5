"""Trials of what would make the checkpoint better: fair, measured on held-out text, and not run twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.nano import corpus
from export.repository import NANO

torch = pytest.importorskip("torch", reason="training needs torch; make test installs it")

TEXTS = ["The train to London leaves at nine.", "Four five six.", "Please call me tomorrow.", "It is raining again."]


def weights() -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {n.removeprefix("model."): w.float() for n, w in load_file(NANO / "model.safetensors").items()}


def test_a_decoder_with_more_layers_says_the_same():
    from export.nano.model import Dims, Whisper, deepened

    state = weights()
    models = [Whisper(Dims.of(s)).eval() for s in (state, deepened(state, 4, "decoder"))]
    for model, s in zip(models, (state, deepened(state, 4, "decoder")), strict=True):
        model.load_state_dict(s)
    assert [m.dims.decoder_layers for m in models] == [2, 4]
    tokens, hidden = torch.randint(0, 1000, (2, 9)), torch.randn(2, 50, 256)
    with torch.no_grad():
        said = [m.decoder(tokens, hidden) for m in models]
    assert torch.allclose(said[0], said[1], atol=1e-4)


def test_what_was_said_surprises_less_than_what_was_not(tmp_path: Path, speak):
    from tokenizers import Tokenizer

    from export.nano.model import Dims, Whisper
    from export.nano.trials import surprise

    corpus.write_shard(tmp_path, "a", [speak(t) for t in TEXTS])
    items = corpus.read(tmp_path)
    model = Whisper(Dims.of(weights())).eval()
    model.load_state_dict(weights())
    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    wrong = [replace(item, text=other.text) for item, other in zip(items, [*items[1:], items[0]], strict=True)]
    assert surprise(model, tokenizer, items) < 0.5 < 1.5 < surprise(model, tokenizer, wrong)


def test_trials_score_each_idea_on_every_set_once(tmp_path: Path, speak):
    from export.nano import trials
    from export.nano.train import Plan, train

    spoken = [speak(t) for t in TEXTS]
    corpus.write_shard(tmp_path / "data", "shard-000", spoken)
    for name in ("seen", "unseen"):
        corpus.write_shard(tmp_path / "test", name, spoken)
    train(tmp_path / "data", tmp_path / "run", Plan(steps=2, vocab=300, threads=1, save_every=2), [])
    names = [trials.AS_IT_IS, "4 decoder layers", "768 tokens", "distilled from 4 decoder layers"]
    table = trials.run(tmp_path, 1, [], names)
    found = json.loads((tmp_path / "trials" / "trials.json").read_text())
    assert list(found) == names
    assert all(0 < scores["nats"][name] < 20 for scores in found.values() for name in ("seen", "unseen"))
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [f"| {name}" for name in names]
    ended = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("last.pt")}
    assert len(ended) == 5
    assert trials.run(tmp_path, 1, [], names) == table
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("last.pt")} == ended
