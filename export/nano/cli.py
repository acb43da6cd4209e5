"""`python -m export.nano COMMAND`: the checkpoint in the box from an empty folder (see `--help` for the steps)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from export.nano import card as cards
from export.nano import conditions, corpus
from export.nano import evaluate as evaluation
from export.repository import CHECKPOINTS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console()

Work = Annotated[Path, typer.Option(help="Folder for data, runs and test sets; tens of gigabytes.")]
Checkpoint = Annotated[Path, typer.Option(help="A checkpoint folder in Hugging Face's format.")]
WORK = Path("runs/nano")
OTHER_WINDOWS_S = (12, 30)
WINDOWS_S = (1, 2, 3, 4, 5, 6, 8, 10, 12)


@app.command()
def synthesise(work: Work = WORK, n: int = 200_000, workers: int = 2, seed: int = 1) -> None:
    """Make the training shards and the held-out test sets (espeak-ng, flite, festival; 35-45 utterances a second)."""
    corpus.synthesise_test(work / "test")
    corpus.synthesise(work / "data", n, seed=seed, workers=workers)


@app.command()
def train(
    work: Work = WORK,
    steps: int = 6700,
    seed: int = 1,
    threads: int = 2,
    recorded: Annotated[list[Path] | None, typer.Option(help="Folders with audio and transcripts.tsv, real speech.")] = None,
    device: str = "auto",
) -> None:
    """Train, or go on with a run: `runs/nano/run/last.pt` is resumed."""
    from export.nano.train import Plan
    from export.nano.train import train as run

    run(work / "data", work / "run", Plan(steps=steps, seed=seed, threads=threads), recorded or [], device)


@app.command()
def deepen(work: Work = WORK, layers: Annotated[int, typer.Option(help="Encoder layers.")] = 6) -> None:
    """Give a trained run a deeper encoder that computes the same; `train` then goes on with it."""
    import torch

    from export.nano.model import deepened

    last = work / "run" / "last.pt"
    saved = torch.load(last, map_location="cpu", weights_only=True)
    torch.save({"model": deepened(saved["model"], layers), "step": saved["step"]}, last)


@app.command()
def package(
    work: Work = WORK,
    out: Checkpoint = CHECKPOINTS,
    average: Annotated[int, typer.Option(help="Average the weights of so many last checkpoints.")] = 1,
) -> None:
    """Pack the trained weights as a checkpoint folder."""
    from export.nano import package as packing

    run = work / "run"
    weights = run / "last.pt"
    if average > 1:
        saved = sorted(run.glob("step-*.pt"), key=lambda p: int(p.stem.split("-")[1]))[-average:]
        weights = run / "average.pt"
        packing.average(saved, weights)
    packing.package(weights, run / "tokenizer", out, windows_s=WINDOWS_S, alignment_heads=cards.ALIGNMENT_HEADS)
    console.print(f"{out}: {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.1f} MB")


@app.command()
def evaluate(
    work: Work = WORK,
    checkpoint: Checkpoint = CHECKPOINTS,
    precision: str = "fp32",
    recorded: Annotated[list[Path] | None, typer.Option(help="Folders of real speech with transcripts.tsv.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noises, to hear each set in too, 10 dB below it.")] = None,
    digits: Annotated[Path | None, typer.Option(help="Recordings of the free spoken digit dataset.")] = None,
    quick: Annotated[bool, typer.Option(help="The sets themselves, nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the scores as JSON.")] = None,
) -> None:
    """Print word error rates on the held-out sentences: in voices trained on, in others, and on real speech; each also in
    noise and over a telephone line; in other windows; and how well timestamps are placed."""
    corpus.synthesise_test(work / "test")
    plain = {name: corpus.read_shard(work / "test" / f"{name}.jsonl") for name in ("seen", "unseen")}
    for folder in recorded or []:
        name = f"{folder.parent.name}-{folder.name}"
        index = work / "test" / "recorded" / f"{name}.jsonl"
        if not index.exists():
            corpus.write_shard(index.parent, name, corpus.recorded(folder, folder / "transcripts.tsv"))
        plain[name] = corpus.read_shard(index)
    found: dict[str, Any] = {"precision": precision, "normaliser": evaluation.NORMALISER}
    recogniser = evaluation.Recogniser(checkpoint, precision)

    def measure(key: str, sets: Mapping[str, Sequence[conditions.Spoken]], window_s: float | None = None) -> None:
        scores = evaluation.evaluate(recogniser, sets, window_s)
        found.setdefault(key, {}).update({n: asdict(s) | {"wer": round(s.wer, 2)} for n, s in scores.items()})
        for name, score in scores.items():
            console.print(f"  {name:36} {score}", highlight=False)

    console.print(f"word error rate, {precision}, greedy, normaliser: {evaluation.NORMALISER}")
    try:
        measure("sets", plain)
        if not quick:
            measure("sets", {f"{n}, over a telephone line": conditions.over_telephone(items) for n, items in plain.items()})
            if noise:
                measure("sets", {f"{n}, in noise": conditions.in_noise(items, noise) for n, items in plain.items()})
            if digits:
                measure("sets", {"digits": conditions.digits(digits)})
            for window_s in OTHER_WINDOWS_S:
                measure("windows", {f"seen, {window_s:g} s windows": plain["seen"]}, window_s)
            found["timestamps"] = evaluation.timestamps(recogniser, plain["seen"])
            console.print(f"  timestamps: {found['timestamps']}", highlight=False)
    finally:
        recogniser.close()
    if out:
        out.write_text(json.dumps(found, indent=1) + "\n")


@app.command()
def card(
    work: Work = WORK,
    checkpoint: Checkpoint = CHECKPOINTS,
    scores: Annotated[list[Path] | None, typer.Option(help="What `evaluate --out` wrote; once for each precision.")] = None,
) -> None:
    """Write the model card beside the weights, from the run's log and the scores."""
    (checkpoint / "README.md").write_text(cards.text(work / "run", checkpoint, scores or []), "utf-8")
    console.print(f"{checkpoint / 'README.md'} written")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    app()
