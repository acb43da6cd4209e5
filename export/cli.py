"""`python -m export` and `voiceforge models`: checkpoints from the hub, models into a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from export.checkpoint import HUB_PATTERNS, CheckpointError
from export.repository import CHECKPOINTS, export_silero, export_whisper, model_name

console = Console(stderr=True)
DEFAULT_REPOSITORY = Path("model_repository")

Repository = Annotated[
    Path,
    typer.Option("--model-repository", help="Where Triton finds its models.", envvar="VOICEFORGE_MODEL_REPOSITORY"),
]
Precision = Annotated[str, typer.Option(help="fp32; fp16 for GPUs; int8 for CPUs.")]


def _say(message: str) -> None:
    console.print(Text(f"  {message}", style="dim"))


def export_command(
    source: Annotated[str, typer.Argument(help="A checkpoint folder, a Hugging Face repo, `nano`, or `silero_vad`.")],
    model_repository: Repository = DEFAULT_REPOSITORY,
    precision: Precision = "fp32",
    name: Annotated[str | None, typer.Option(help="Name to serve it under; else the last part of the source.")] = None,
) -> None:
    """Write a checkpoint as ONNX into the model repository."""
    try:
        if source == "silero_vad":
            done = export_silero(model_repository, progress=_say)
        else:
            boxed = source == "nano" and not Path(source).exists()
            done = export_whisper(
                str(CHECKPOINTS) if boxed else source,
                model_repository,
                precision=precision,
                name=name or ("nano" if boxed else None),
                progress=_say,
            )
    except (CheckpointError, ValueError, OSError) as error:
        console.print(Text(str(error), style="bold red"))
        raise typer.Exit(1) from None
    console.print(Text(f"{done} is in {model_repository}", style="green"))


def pull_command(
    repo: Annotated[str, typer.Argument(help="A Hugging Face repo, for example openai/whisper-base.en.")],
    endpoint: Annotated[str | None, typer.Option(help="Another hub, http(s)://HOST.", envvar="HF_ENDPOINT")] = None,
    model_repository: Repository = DEFAULT_REPOSITORY,
    precision: Precision = "int8",
    name: Annotated[str | None, typer.Option(help="Name to serve it under; else the last part of the repo.")] = None,
) -> None:
    """Download a checkpoint (with progress, resumed and checked by the hub's hashes) and export it."""
    from huggingface_hub import HfApi, snapshot_download

    from export.hub import verify

    try:
        folder = Path(snapshot_download(repo, allow_patterns=HUB_PATTERNS, endpoint=endpoint))
        checked = verify(folder, HfApi(endpoint=endpoint).model_info(repo, files_metadata=True))
        _say(f"{repo}: {checked} files match the hub's checksums")
        done = export_whisper(
            str(folder), model_repository, precision=precision, name=name or model_name(repo), origin=repo, progress=_say
        )
    except Exception as error:  # the hub client raises its HTTP library's own errors, of which there have been several
        console.print(Text(f"{repo}: {(str(error) or type(error).__name__).splitlines()[0]}", style="bold red"))
        raise typer.Exit(1) from None
    console.print(Text(f"{done} is in {model_repository}; serve it with: voiceforge serve --model {done}", style="green"))


def main() -> None:
    app = typer.Typer(no_args_is_help=True, add_completion=False)
    app.command("export")(export_command)
    app.command("pull")(pull_command)
    app()
