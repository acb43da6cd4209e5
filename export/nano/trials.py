"""What would make `nano` better for its size: ideas, each against the recipe as it is.

Every trial goes on from the same trained run, with the same seed, for as many steps, with the learning rate decaying over
the last half; one that changes nothing but which utterances come when tells how much is chance. What is compared is how
surprised the weights are by held-out text they hear (nats a character, so that tokenizers can be compared too; far less
noisy than errors are after so short a run), and the word error rates.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from export.nano import card, corpus, package
from export.nano import evaluate as evaluation
from export.nano import tokenizer as bpe
from export.nano.curriculum import STAGES
from export.nano.data import BUCKETS_S, IGNORE
from export.nano.features import log_mel
from export.nano.model import Whisper, deepened
from export.nano.multilingual import embeddings
from export.nano.synth import SAMPLE_RATE
from export.nano.train import Plan, train

TOGETHER = 16
EMBEDDED = "decoder.embed_tokens.weight"


@dataclass(frozen=True)
class Trial:
    """One change: of the curriculum (fields of `Curriculum`), the model, the tokenizer, or how weights are chosen."""

    name: str
    curriculum: Mapping[str, Any] = field(default_factory=dict[str, Any])
    decoder_layers: int = 0
    vocab: int = 0
    taught_by: str = ""
    """The trial whose weights are the teacher's; it has to have run."""
    averaged: int = 0
    """Without decay, the mean of so many last saves."""
    seed: int = 5
    """Of what is heard in which order."""


AS_IT_IS = "as it is"
TRIALS = (
    Trial(AS_IT_IS),
    Trial("as it is, other utterances", seed=6),
    Trial("no SpecAugment", {"spec": 0.0}),
    Trial("SpecAugment six times as often", {"spec": 0.6}),
    Trial("no formant shift", {"formants": 0.0}),
    Trial("rooms, codecs and noise half as often", {"distort": 0.5}),
    Trial("rare words as often as others", {"rare": 0.0}),
    Trial("4 decoder layers", decoder_layers=4),
    Trial("768 tokens", vocab=768),
    Trial("3,072 tokens", vocab=3072),
    Trial("no decay, last 4 saves averaged", averaged=4),
    Trial("distilled from 4 decoder layers", taught_by="4 decoder layers"),
)


def prepare(trial: Trial, trained: Path, out: Path, sentences: Sequence[str]) -> int:
    """Writes the run folder that a trial goes on from; returns its step. Optimisers begin anew in all trials alike."""
    shutil.copytree(trained / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    shutil.copyfile(trained / "vocabulary.json", out / "vocabulary.json")
    saved = torch.load(trained / "last.pt", map_location="cpu", weights_only=True)
    state: dict[str, Tensor] = saved["model"]
    if trial.decoder_layers:
        state = deepened(state, trial.decoder_layers, "decoder")
    if trial.vocab:
        torch.manual_seed(1)
        tokens = bpe.train(sentences, trial.vocab)
        bpe.save(tokens, out / "tokenizer")
        before = Tokenizer.from_file(str(trained / "tokenizer" / "tokenizer.json"))
        state = {**state, EMBEDDED: embeddings(state[EMBEDDED].float(), before, tokens)}
    torch.save({"model": state, "step": saved["step"]}, out / "last.pt")
    return saved["step"]


def _batches(items: Sequence[corpus.Item]) -> Iterator[tuple[Tensor, list[corpus.Item]]]:
    """(B, 80, frames) of utterances that share a window."""
    for low, high in zip((0, *BUCKETS_S), BUCKETS_S, strict=False):
        members = [i for i in items if low * SAMPLE_RATE < i.n_samples <= high * SAMPLE_RATE]
        for at in range(0, len(members), TOGETHER):
            some = members[at : at + TOGETHER]
            audio = np.zeros((len(some), high * SAMPLE_RATE), np.float32)
            for row, item in zip(audio, some, strict=True):
                row[: item.n_samples] = item.audio().astype(np.float32) / 32768
            yield torch.from_numpy(np.stack([log_mel(row) for row in audio])), some


@torch.no_grad()
def surprise(model: Whisper, tokenizer: Tokenizer, items: Sequence[corpus.Item]) -> float:
    """Nats a character of the right text of an English checkpoint, given its audio; lower is better."""
    sot, plain, end = tokenizer.encode("<|startoftranscript|><|notimestamps|><|endoftext|>").ids
    nats, characters = 0.0, 0
    for mel, some in _batches(items):
        rows = [[sot, plain, *tokenizer.encode(" " + i.text, add_special_tokens=False).ids, end] for i in some]
        length = max(map(len, rows)) - 1
        tokens = torch.full((len(rows), length), end)
        targets = torch.full((len(rows), length), IGNORE)
        for k, row in enumerate(rows):
            tokens[k, : len(row) - 1] = torch.tensor(row[:-1])
            targets[k, 1 : len(row) - 1] = torch.tensor(row[2:])
        logits = model.decoder(tokens, model.encoder(mel))
        nats += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum").item()
        characters += sum(len(i.text) for i in some)
    return nats / characters


def attempt(
    trial: Trial,
    trained: Path,
    data: Path,
    out: Path,
    steps: int,
    recorded: list[Path],
    sets: Mapping[str, list[corpus.Item]],
) -> dict[str, Any]:
    """Trains and scores one trial in `out`; returns nats a character and word error rates of each set."""
    out.mkdir(parents=True, exist_ok=True)
    begin = prepare(trial, trained, out, [i.text for i in corpus.read(data)] if trial.vocab else [])
    every = max(1, steps // 12)
    plan = Plan(
        begin=begin, steps=begin + steps, warmup=max(1, steps // 10), decay=0.0 if trial.averaged else 0.5, peak=8e-4,
        threads=1, seed=trial.seed, save_every=every, keep_every=every if trial.averaged else 1_000_000, log_every=every,
    )  # fmt: skip
    _, curriculum = STAGES[-1]
    teacher = package.load(out.parent / trial.taught_by.replace(" ", "-") / "last.pt") if trial.taught_by else None
    stages = [(0, dataclasses.replace(curriculum, **trial.curriculum))]
    train(data, out, plan, recorded, stages=stages, teacher=teacher)
    weights = out / "last.pt"
    if trial.averaged:
        kept = sorted(out.glob("step-*.pt"), key=lambda p: int(p.stem.split("-")[1]))[-trial.averaged :]
        weights = out / "average.pt"
        package.average(kept, weights)
    model, tokenizer = package.load(weights), Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    found = {"nats": {name: surprise(model, tokenizer, items) for name, items in sets.items()}}
    package.package(weights, out / "tokenizer", out / "checkpoint", alignment_heads=card.ALIGNMENT_HEADS)
    recogniser = evaluation.Recogniser(out / "checkpoint", threads=1, beam_size=1)
    try:
        scores = evaluation.evaluate(recogniser, sets)
    finally:
        recogniser.close()
    return {**found, "wer": {name: scores[name].wer for name in sets}}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    sets = list(next(iter(found.values()))["nats"])
    heads = ["trial", *(f"{s}, {what}" for s in sets for what in ("nats a character", "WER"))]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, scores in found.items():
        cells = [f"{scores['nats'][s]:.4f} | {scores['wer'][s]:.1f} %" for s in sets]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(work: Path, steps: int, recorded: list[Path], only: Sequence[str] = ()) -> str:
    """All trials that have no result yet in `work/trials/trials.json`; returns the table of all results."""
    path = work / "trials" / "trials.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    sets = {name: corpus.read_shard(work / "test" / f"{name}.jsonl") for name in ("seen", "unseen")}
    sets |= {index.stem: corpus.read_shard(index) for index in sorted((work / "test" / "recorded").glob("*.jsonl"))}

    def results() -> dict[str, Any]:  # read each time: somebody may run other trials at the same time
        return json.loads(path.read_text()) if path.exists() else {}

    for trial in TRIALS:
        if trial.name in results() or (only and trial.name not in only):
            continue
        out = path.parent / trial.name.replace(" ", "-")
        scores = attempt(trial, work / "run", work / "data", out, steps, recorded, sets)
        path.write_text(json.dumps(results() | {trial.name: scores}, indent=1) + "\n")
    return table(results())
