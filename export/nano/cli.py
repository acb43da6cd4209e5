"""`python -m export.nano COMMAND`: the checkpoint in the box from an empty folder (see `--help` for the steps)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export.nano import card as cards
from export.nano import corpus
from export.nano import evaluate as evaluation
from export.repository import CHECKPOINTS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console()

Work = Annotated[Path, typer.Option(help="Folder for data, runs and test sets; tens of gigabytes.")]
Checkpoint = Annotated[Path, typer.Option(help="A checkpoint folder in Hugging Face's format.")]
WORK = Path("runs/nano")
WINDOWS_S = (1, 2, 3, 4, 5, 6, 8, 10, 12)


@app.command()
def synthesise(work: Work = WORK, n: int = 60_000, workers: int = 2, seed: int = 1) -> None:
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
    window_s: Annotated[float | None, typer.Option(help="Pad every utterance to this window.")] = None,
    recorded: Annotated[list[Path] | None, typer.Option(help="Folders of real speech with transcripts.tsv.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the scores as JSON.")] = None,
) -> None:
    """Print word error rates on the held-out sentences: in voices trained on, in others, and on real speech."""
    corpus.synthesise_test(work / "test")
    sets = {name: corpus.read_shard(work / "test" / f"{name}.jsonl") for name in ("seen", "unseen")}
    for folder in recorded or []:
        name = f"{folder.parent.name}-{folder.name}"
        index = work / "test" / "recorded" / f"{name}.jsonl"
        if not index.exists():
            corpus.write_shard(index.parent, name, corpus.recorded(folder, folder / "transcripts.tsv"))
        sets[name] = corpus.read_shard(index)
    scores = evaluation.evaluate(checkpoint, sets, precision, window_s)
    console.print(f"word error rate, {precision}, greedy, normaliser: {evaluation.NORMALISER}")
    for name, score in scores.items():
        console.print(f"  {name:24} {score}", highlight=False)
    if out:
        out.write_text(evaluation.as_json(scores) + "\n")


@app.command()
def card(work: Work = WORK, checkpoint: Checkpoint = CHECKPOINTS, scores: Path | None = None) -> None:
    """Write the model card beside the weights, from the run's log and an `evaluate --out` file."""
    (checkpoint / "README.md").write_text(cards.text(work / "run", scores), "utf-8")
    console.print(f"{checkpoint / 'README.md'} written")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    app()
