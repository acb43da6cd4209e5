"""`python -m export` and `voiceforge models`: checkpoints from the hub, models into a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from export.checkpoint import CheckpointError, download
from export.repository import IN_THE_BOX, export_silero, export_whisper, model_name
from export.triton_config import Tuning

console = Console(stderr=True)
DEFAULT_REPOSITORY = Path("model_repository")

Repository = Annotated[
    Path,
    typer.Option("--model-repository", help="Where Triton finds its models.", envvar="VOICEFORGE_MODEL_REPOSITORY"),
]
Name = Annotated[str | None, typer.Option(help="Name to serve it under; else the last part of the source.")]
Tune = Annotated[
    list[str] | None,
    typer.Option("--tune", help="For what machine: device=cuda, instances=4, max_rows=64, … As often as you like."),
]
Precision = Annotated[str, typer.Option(help="fp32; fp16 for GPUs; int8 for CPUs.")]


def _say(message: str) -> None:
    console.print(Text(f"  {message}", style="dim"))


def _one_name(sources: list[str], name: str | None) -> None:
    if name and len(sources) > 1:
        console.print(Text("--name names one model; leave it out for several", style="bold red"))
        raise typer.Exit(2)


def _exported(source: str, repository: Path, precision: str, name: str | None, tuning: Tuning) -> str:
    if source == "silero_vad":
        return export_silero(repository, instances=tuning.instances, progress=_say)
    if source in IN_THE_BOX and not Path(source).exists():
        source, name = str(IN_THE_BOX[source]), name or source
    return export_whisper(source, repository, precision=precision, name=name, tuning=tuning, progress=_say)


def export_command(
    sources: Annotated[list[str], typer.Argument(help="Checkpoint folders, Hugging Face repos, `nano`, or `silero_vad`.")],
    model_repository: Repository = DEFAULT_REPOSITORY,
    precision: Precision = "fp32",
    name: Name = None,
    tune: Tune = None,
) -> None:
    """Write checkpoints as ONNX into the model repository."""
    _one_name(sources, name)
    for source in sources:
        try:
            done = _exported(source, model_repository, precision, name, Tuning.parse(tune or []))
        except (CheckpointError, ValueError, OSError) as error:
            console.print(Text(str(error), style="bold red"))
            raise typer.Exit(1) from None
        console.print(Text(f"{done} is in {model_repository}", style="green"))


def _pulled(repo: str, endpoint: str | None, repository: Path, precision: str, name: str | None) -> str:
    from huggingface_hub import HfApi

    from export.hub import verify

    folder = download(repo, endpoint=endpoint)
    checked = verify(folder, HfApi(endpoint=endpoint).model_info(repo, files_metadata=True))
    _say(f"{repo}: {checked} files match the hub's checksums")
    return export_whisper(
        str(folder), repository, precision=precision, name=name or model_name(repo), origin=repo, progress=_say
    )


def pull_command(
    repos: Annotated[list[str], typer.Argument(help="Hugging Face repos, for example openai/whisper-base.en.")],
    endpoint: Annotated[str | None, typer.Option(help="Another hub, http(s)://HOST.", envvar="HF_ENDPOINT")] = None,
    model_repository: Repository = DEFAULT_REPOSITORY,
    precision: Precision = "int8",
    name: Name = None,
) -> None:
    """Download checkpoints (with progress, resumed and checked by the hub's hashes) and export them."""
    _one_name(repos, name)
    for repo in repos:
        try:
            done = _pulled(repo, endpoint, model_repository, precision, name)
        except Exception as error:  # the hub client raises its HTTP library's own errors, of which there have been several
            console.print(Text(f"{repo}: {(str(error) or type(error).__name__).splitlines()[0]}", style="bold red"))
            raise typer.Exit(1) from None
        console.print(
            Text(f"{done} is in {model_repository}; serve it with: voiceforge serve --model {done}", style="green"),
        )
        console.print(Text(f"or, where a server runs: voiceforge models load {done}", style="green"))


def main() -> None:
    app = typer.Typer(no_args_is_help=True, add_completion=False)
    app.command("export")(export_command)
    app.command("pull")(pull_command)
    app()
