"""`voiceforge models`: what is in the repository, and what a running server has loaded of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from export import manifest
from export.cli import export_command, pull_command
from export.repository import IN_THE_BOX
from frontend.embedded.layout import announced
from frontend.errors import VoiceForgeError
from frontend.inference.engine import TritonEngine
from frontend.inference.triton import Patience
from frontend.provision import REAL_WHISPER
from frontend.settings import Settings

models_app = typer.Typer(no_args_is_help=True, help="Checkpoints, the model repository, and what a server has loaded.")
models_app.command("pull")(pull_command)
models_app.command("export")(export_command)
console = Console(stderr=True)
T = TypeVar("T")

Repository = Annotated[Path | None, typer.Option("--model-repository", help="Triton's model repository.")]
Triton = Annotated[str | None, typer.Option(help="HOST:PORT of an external Triton's gRPC; else the embedded one is found.")]
Names = Annotated[list[str], typer.Argument(help="Models, as `models list` names them.")]


def _fail(message: str) -> typer.Exit:
    console.print(Text(message, style="bold red"))
    return typer.Exit(1)


def _settings(model_repository: Path | None, triton: str | None) -> Settings:
    given = {"model_repository": model_repository, "triton": triton}
    return Settings(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


def _addresses(settings: Settings) -> list[str]:
    """Those named, or that of the Triton that serves the repository. Raises `typer.Exit` when several embedded ones do."""
    if settings.triton:
        return settings.tritons
    found = announced(settings.model_repository)
    if len(found) > 1:
        raise _fail(f"{len(found)} servers use {settings.model_repository}; say which: --triton {' or '.join(found)}")
    return found


async def _asked(addresses: Sequence[str], work: Callable[[TritonEngine], Awaitable[T]]) -> T:
    engine = TritonEngine(*addresses, patience=Patience(call=10, outage=0))
    try:
        return await work(engine)
    finally:
        await engine.close()


def _size(repository: Path, files: dict[str, str]) -> str:
    present = [repository / f for f in files if (repository / f).exists()]
    return f"{sum(p.stat().st_size for p in present) / 1e6:.0f} MB"


def _languages(entry: dict[str, list[str]]) -> str:
    known = entry.get("languages", [])
    return ", ".join(known) if len(known) < 4 else f"{len(known)} languages"


@models_app.command("list")
def list_command(model_repository: Repository = None, triton: Triton = None) -> None:
    """What the model repository holds, and what a running server has loaded."""
    settings = _settings(model_repository, triton)
    repository = settings.model_repository
    servers = settings.tritons or announced(repository)
    loaded: dict[str, bool] = {}
    for address in servers:
        try:
            there = asyncio.run(_asked([address], lambda engine: engine.repository()))
        except VoiceForgeError as error:
            console.print(Text(f"{address}: {error}", style="yellow"))
        else:
            loaded = {name: loaded.get(name, False) or there.get(name, False) for name in loaded.keys() | there.keys()}
    table = Table("name", "source", "precision", "languages", "windows", "size", "state")
    entries = manifest.read(repository)["models"]
    for name, entry in entries.items():
        windows = ", ".join(f"{s:g}" for s in entry.get("windows_s", []))
        states = ["loaded"] if loaded.get(name) else []
        states += ["changed on disk"] if manifest.changed(repository, name) else []
        size = _size(repository, entry["sha256"])
        table.add_row(
            name, entry["source"], entry.get("precision", ""), _languages(entry), f"{windows} s" if windows else "", size,
            ", ".join(states) or "ok",
        )  # fmt: skip
    for name in loaded.keys() - entries.keys():  # an external Triton has a repository of its own
        table.add_row(name, "", "", "", "", "", "loaded" if loaded[name] else "")
    out = Console()
    out.print(table if table.row_count else f"{repository} holds no models yet; `voiceforge serve` exports what it needs")
    out.print(f"[dim]in the box: {', '.join(IN_THE_BOX)}; from the hub, for example: {REAL_WHISPER}")
    out.print(f"[dim]server: {', '.join(servers) or 'none runs over this repository'}")


def _through_triton(
    names: list[str], settings: Settings, work: Callable[[TritonEngine, str, Callable[[str], None]], Awaitable[str]]
) -> None:
    """Does it to each model, showing what goes on and for how long. Exits with 1 at the first failure."""
    addresses = _addresses(settings)
    if not addresses:
        raise _fail(
            f"no server runs over {settings.model_repository}; start one (voiceforge serve), or name an external Triton "
            "with --triton HOST:PORT"
        )

    async def one(name: str) -> str:
        began, doing = time.monotonic(), ""

        def progress(what: str) -> None:
            nonlocal doing
            doing = what
            if not console.is_terminal:
                console.print(Text(f"  {what}", style="dim"))

        with console.status("") as status:

            async def tick() -> None:
                while True:
                    status.update(f"{doing}  {time.monotonic() - began:.0f} s")
                    await asyncio.sleep(0.2)

            ticking = asyncio.create_task(tick())
            try:
                done = await _asked(addresses, lambda engine: work(engine, name, progress))
            finally:
                ticking.cancel()
                with suppress(asyncio.CancelledError):
                    await ticking
        return f"{done} ({time.monotonic() - began:.1f} s)"

    for name in names:
        try:
            console.print(Text(asyncio.run(one(name)), style="green"))
        except VoiceForgeError as error:
            raise _fail(str(error)) from None


@models_app.command("load")
def load_command(names: Names, model_repository: Repository = None, triton: Triton = None) -> None:
    """Load models of the repository into a running server; one that is loaded is loaded anew."""

    async def load(engine: TritonEngine, name: str, progress: Callable[[str], None]) -> str:
        info = await engine.load(name, progress)
        what = f"{len(info.languages)} languages" if info.multilingual else ", ".join(info.languages)
        return f"{name} is loaded: {what}, windows up to {info.window_s:g} s"

    _through_triton(names, _settings(model_repository, triton), load)


@models_app.command("unload")
def unload_command(names: Names, model_repository: Repository = None, triton: Triton = None) -> None:
    """Unload models from a running server: new sessions are refused, running ones end with UNKNOWN_MODEL."""

    async def unload(engine: TritonEngine, name: str, progress: Callable[[str], None]) -> str:
        await engine.unload(name, progress)
        return f"{name} is unloaded"

    _through_triton(names, _settings(model_repository, triton), unload)
