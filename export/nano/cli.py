"""`python -m export.nano COMMAND`: the checkpoint in the box from an empty folder (see `--help` for the steps)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from export.nano import card as cards
from export.nano import conditions, corpus, show_log
from export.nano import evaluate as evaluation
from export.nano.languages import LANGUAGES
from export.repository import NANO

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console()

Work = Annotated[Path, typer.Option(help="Folder for data, runs and test sets; tens of gigabytes.")]
Checkpoint = Annotated[Path, typer.Option(help="A checkpoint folder in Hugging Face's format.")]
WORK, MULTI = Path("runs/nano"), Path("runs/nano-multi")
OTHER_WINDOWS_S = (12, 30)


Languages = Annotated[list[str], typer.Option("--language", help=f"en, {', '.join(LANGUAGES)}; once for each.")]
Recorded = Annotated[list[Path] | None, typer.Option(help="Folders with audio and transcripts.tsv, real speech.")]


@app.command()
def synthesise(
    work: Work = WORK,
    n: int = 200_000,
    workers: int = 2,
    seed: int = 1,
    language: Languages = ["en"],  # noqa: B006 - typer's
) -> None:
    """Make the training shards, `n` utterances of each language, and held-out test sets (espeak-ng, flite, festival, SVOX
    Pico; some hundred a second)."""
    for code in language:
        corpus.synthesise_test(work / "test", language=code)
        corpus.synthesise(work / "data", n, seed=seed, workers=workers, language=code)


@app.command()
def kokoro(
    voices: Annotated[Path, typer.Option(help="The folder package/voices of npm's kokoro-js.")],
    out: Annotated[Path, typer.Option(help="Folder for audio and transcripts.tsv, for `train --recorded`.")] = WORK
    / "kokoro",
    n: int = 1500,
    seed: int = 1,
) -> None:
    """Have sentences spoken by Kokoro's 28 English voices and by blends of them."""
    from rich.progress import track

    from export.nano import neural

    said = neural.sentences(n, seed)
    for _ in track(neural.spoken_by_kokoro(out, voices, said, seed), "spoken", len(said), console=console):
        pass


@app.command()
def sounds(
    folder: Annotated[
        list[Path] | None, typer.Option(help="Of recorded noises; by default those of Debian's packages that are there.")
    ] = None,
    work: Work = WORK,
) -> None:
    """Gather recorded noises, for `train` to hear behind speech."""
    from export.nano.sounds import FOLDERS, gather

    known = [Path("/usr/share") / f for f in FOLDERS]
    n = gather(work / "data-sounds", folder or [f for f in known if f.is_dir()])
    if not n:
        raise typer.BadParameter("no sound is there; docs/models.md lists Debian's packages of sounds")
    console.print(f"{n} sounds")


@app.command()
def multilingual(
    checkpoint: Checkpoint = NANO,
    work: Work = MULTI,
    vocab: Annotated[int, typer.Option(help="Tokens to spell all languages with.")] = 3072,
    language: Languages = ["en", *LANGUAGES],  # noqa: B006 - typer's
    recorded: Recorded = None,
) -> None:
    """Begin a checkpoint of several languages with what one of English has learned; `train` then goes on with it."""
    from export.nano.data import recorded_items
    from export.nano.multilingual import begin

    begin(checkpoint, work / "data", work / "run", vocab, language, recorded_items(work / "data", recorded or []))


@app.command()
def train(
    work: Work = WORK,
    steps: int = 6700,
    seed: int = 1,
    threads: int = 2,
    workers: Annotated[int, typer.Option(help="Processes that make batches: 1 keeps up with two cores, 12 with a GPU.")] = 1,
    batch: Annotated[int, typer.Option(help="How many times as much is heard in a step; 10 for a GPU.")] = 1,
    times: Annotated[
        int, typer.Option(help="How often each batch is heard; 3 where the workers are slower than a GPU.")
    ] = 1,
    minutes: Annotated[float, typer.Option(help="Train so long, rather than so many steps.")] = 0.0,
    recorded: Recorded = None,
    device: str = "auto",
    pair: Annotated[bool, typer.Option(help="Two runs, a thread each, that average their weights.")] = False,
    peak: Annotated[float, typer.Option(help="The learning rate before it decays.")] = 1.4e-3,
    decay: Annotated[float, typer.Option(help="Share of the steps in which it does.")] = 0.35,
) -> None:
    """Train, or go on with a run: `runs/nano/run/last.pt` is resumed."""
    from export.nano import train as training

    plan = training.Plan(
        steps=steps, seed=seed, threads=threads, workers=workers, batch=batch, times=times, minutes=minutes, peak=peak,
        decay=decay,
    )  # fmt: skip
    learn = training.train_pair if pair else training.train
    learn(work / "data", work / "run", plan, recorded or [], device)


@app.command()
def unpack(
    step: Annotated[int, typer.Option(help="Where in the schedule `train` goes on.")],
    work: Work = WORK,
    checkpoint: Checkpoint = NANO,
) -> None:
    """Make of a packed checkpoint a run that `train` goes on with: more training, or your own recordings."""
    from export.nano import package as packing

    packing.unpack(checkpoint, work / "data", work / "run", step)


@app.command()
def align(work: Work = WORK, checkpoint: Checkpoint = NANO) -> None:
    """Give the real recordings that `train` was called with word times, by a checkpoint that has learned them; `train` then
    goes on with sentences put together from them."""
    from export.nano.align import align as run

    recogniser = evaluation.Recogniser(checkpoint)
    try:
        for index in sorted((work / "data-recorded").glob("*.jsonl")):
            found, of = run(index, recogniser)
            console.print(f"{index.name}: {found} of {of} utterances have word times")
    finally:
        recogniser.close()


@app.command()
def deepen(work: Work = WORK, layers: Annotated[int, typer.Option(help="Encoder layers.")] = 6) -> None:
    """Give a trained run a deeper encoder that computes the same; `train` then goes on with it."""
    import torch

    from export.nano.model import deepened

    last = work / "run" / "last.pt"
    saved = torch.load(last, map_location="cpu", weights_only=True)
    torch.save({"model": deepened(saved["model"], layers), "step": saved["step"]}, last)


@app.command()
def trials(
    work: Work = WORK,
    steps: Annotated[int, typer.Option(help="Of each trial; three hundred take ten minutes of a core.")] = 300,
    only: Annotated[list[str] | None, typer.Option(help="A trial's name; once for each. Default: all.")] = None,
    recorded: Recorded = None,
) -> None:
    """Try what could make the checkpoint better for its size: each idea against the recipe as it is."""
    from export.nano.trials import run

    console.print(run(work, steps, recorded or [], only or []), highlight=False)


@app.command()
def package(
    work: Work = WORK,
    out: Checkpoint = NANO,
    average: Annotated[int, typer.Option(help="Average the weights of so many last checkpoints.")] = 1,
    step: Annotated[
        list[int] | None, typer.Option(help="Average the weights that all runs had at this step, and at the others named.")
    ] = None,
) -> None:
    """Pack the trained weights as a checkpoint folder."""
    from export.nano import package as packing

    run = work / "run"
    weights = run / "last.pt"
    if step or average > 1:
        try:
            saved = packing.kept(work, step or [], average)
        except FileNotFoundError as error:
            raise typer.BadParameter(str(error)) from None
        weights = run / "average.pt"
        packing.average(saved, weights)
    packing.package(weights, run / "tokenizer", out, alignment_heads=cards.ALIGNMENT_HEADS)
    console.print(f"{out}: {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.1f} MB")


@app.command()
def evaluate(
    work: Work = WORK,
    checkpoint: Checkpoint = NANO,
    precision: str = "fp32",
    recorded: Annotated[list[Path] | None, typer.Option(help="Folders of real speech with transcripts.tsv.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noises, to hear each set in too.")] = None,
    snr_db: Annotated[float, typer.Option(help="How far the noise is below the speech.")] = conditions.SNR_DB,
    digits: Annotated[Path | None, typer.Option(help="Recordings of the free spoken digit dataset.")] = None,
    beam_size: Annotated[int, typer.Option(help="1 is greedy; by default what the checkpoint says.")] = 0,
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
    recogniser = evaluation.Recogniser(checkpoint, precision, beam_size=beam_size)
    found["beam_size"] = recogniser.beam_size

    def measure(
        key: str, sets: Mapping[str, Sequence[conditions.Spoken]], window_s: float | None = None, language: str = "en"
    ) -> None:
        scores = evaluation.evaluate(recogniser, sets, window_s, language)
        found.setdefault(key, {}).update({n: asdict(s) | {"wer": round(s.wer, 2)} for n, s in scores.items()})
        for name, score in scores.items():
            console.print(f"  {name:36} {score}", highlight=False)

    console.print(f"word error rate, {precision}, beam of {recogniser.beam_size}, normaliser: {evaluation.NORMALISER}")
    try:
        measure("sets", plain)
        synthetic = {"en": plain["seen"]}
        for code in (c for c in recogniser.vocabulary.languages if c in LANGUAGES):
            corpus.synthesise_test(work / "test", language=code)
            both = {
                f"{code}-{name}": corpus.read_shard(work / "test" / f"{code}-{name}.jsonl") for name in ("seen", "unseen")
            }
            measure("sets", both, language=code)
            synthetic[code] = both[f"{code}-seen"]
        if len(synthetic) > 1:
            found["languages"] = evaluation.languages(recogniser, synthetic)
            console.print(f"  language found in two seconds: {found['languages']}", highlight=False)
        if not quick:
            measure("sets", {f"{n}, over a telephone line": conditions.over_telephone(items) for n, items in plain.items()})
            if noise:
                noisy = {n: conditions.in_noise(items, noise, snr_db) for n, items in plain.items()}
                measure("sets", {f"{n}, in noise at {snr_db:g} dB": clips for n, clips in noisy.items()})
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
    checkpoint: Checkpoint = NANO,
    scores: Annotated[list[Path] | None, typer.Option(help="What `evaluate --out` wrote; once for each precision.")] = None,
) -> None:
    """Write the model card beside the weights, from the run's log and the scores."""
    (checkpoint / "README.md").write_text(cards.text(work / "run", checkpoint, scores or []), "utf-8")
    console.print(f"{checkpoint / 'README.md'} written")


def main() -> None:
    show_log()
    app()
