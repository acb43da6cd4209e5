"""Batches that are heard several times, and what a fast trainer asks of the loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.nano import corpus

torch = pytest.importorskip("torch", reason="training needs torch; make test installs it")


def batch(value: float):
    from export.nano.data import Batch

    ids = torch.full((2, 5), int(value))
    return Batch(torch.full((2, 80, 100), float(value)), ids, ids, ids, ids, torch.tensor([3, 4]))


def test_each_batch_is_heard_as_often_as_asked_and_differently(monkeypatch: pytest.MonkeyPatch):
    from export.nano import echo

    monkeypatch.setattr(echo, "BETWEEN", 4)
    heard = list(echo.echoed([batch(k) for k in range(40)], 3, "cpu"))
    times = [sum(int(b.tokens[0, 0]) == k for b in heard) for k in range(40)]
    assert max(times) == 3
    assert sum(times) >= 40 + 2 * 36
    order = [int(b.tokens[0, 0]) for b in heard]
    assert order != sorted(order), "others in between"
    assert [int(b.tokens[0, 0]) for b in echo.echoed([batch(1), batch(2)], 1, "cpu")] == [1, 2]


def test_heard_again_some_mels_are_missing_and_the_rest_is_moved():
    from export.nano import echo

    torch.manual_seed(1)
    sound = batch(1)
    sound.mel[:] = torch.sin(torch.arange(80) / 5)[None, :, None] + torch.cos(torch.arange(100) / 7)
    again = echo.again(sound)
    assert again.mel.shape == sound.mel.shape
    assert not torch.equal(again.mel[0], again.mel[1]), "each utterance its own way"
    assert torch.equal(again.tokens, sound.tokens)
    fill = sound.mel.mean()
    missing = ((again.mel - fill).abs() < 1e-2).float().mean().item()
    assert 0.02 < missing < 0.6
    assert sound.mel[0, 0, 0] == 1.0, "what waits to be heard again stays as it is"


def test_workers_share_the_utterances_of_a_shard(tmp_path: Path, speak):
    said = [speak(f"Number {w}.") for w in ("one", "two", "three", "four", "five")]
    corpus.write_shard(tmp_path, "shard-000", said)
    shares = [[i.text for i in corpus.read_shard(tmp_path / "shard-000.jsonl", k, 3)] for k in range(3)]
    assert shares == [["Number one.", "Number four."], ["Number two.", "Number five."], ["Number three."]]


def test_a_folder_without_utterances_is_named(tmp_path: Path):
    from tokenizers import Tokenizer

    from export.nano.curriculum import STAGES
    from export.nano.data import Batches
    from export.repository import NANO

    tokens = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    with pytest.raises(ValueError, match="has no utterance"):
        next(iter(Batches(tmp_path, tokens, ["pau"], [], 1, STAGES, 0)))


def test_a_batch_of_voices_that_tell_no_phones_has_a_loss():
    from export.nano.data import CHARS, IGNORE, Batch
    from export.nano.model import Dims, Whisper
    from export.nano.train import losses

    torch.manual_seed(1)
    ids = torch.randint(0, 50, (2, 6))
    silent = Batch(
        torch.randn(2, 80, 200), ids, ids, torch.full((2, 100), IGNORE), torch.ones(2, 4).long(), torch.tensor([4, 4])
    )
    parts = losses(Whisper(Dims(50), 5, len(CHARS) + 1), silent, None)
    assert parts["phone"].item() == 0
    assert all(torch.isfinite(p) for p in parts.values())
