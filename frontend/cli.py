"""`voiceforge`: serve, transcribe, models, capacity, doctor."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from frontend import doctor as checks
from frontend.app import embedded_triton, serving
from frontend.batch.client import TranscriptionFailed
from frontend.batch.client import transcribe as stream_file
from frontend.batch.files import UnreadableAudio, read_audio
from frontend.batch.subtitles import FORMATS
from frontend.capacity.command import capacity
from frontend.embedded import EmbeddedTriton, TritonStartError
from frontend.errors import VoiceForgeError
from frontend.models import models_app
from frontend.observability import logs
from frontend.processes import settle
from frontend.provision import AUTO, provision
from frontend.settings import Settings
from frontend.workers.pool import Workers

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Self-hosted, real-time speech-to-text.")
app.add_typer(models_app, name="models")
app.command()(capacity)
console = Console(stderr=True)
DRAINING = Text("draining: running sessions get their finals", style="dim")

Model = Annotated[str | None, typer.Option(help="auto, a model's name, a checkpoint folder, or a Hugging Face repo.")]
Models = Annotated[
    list[str] | None, typer.Option(help="As often as you like; the first is the default of sessions that name none.")
]
Triton = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of an external Triton's gRPC, several with commas, instead of the embedded."),
]


def _fail(message: str) -> typer.Exit:
    console.print(Text(message, style="bold red"))
    return typer.Exit(1)


def _settings(**given: Any) -> Settings:
    return Settings(**{k: v for k, v in given.items() if v is not None})


def _progress(message: str) -> None:
    console.print(Text(f"  {message}", style="dim"))


def _notice(message: str) -> None:
    console.print(Panel(message, title="Serving the checkpoint in the box", style="bold yellow"))


def _prepare(settings: Settings) -> list[str]:
    """The models to serve, exported if need be; empty: whatever an external Triton has."""
    if settings.triton is None:
        return provision(settings, _progress, _notice)
    return [name for name in settings.model if name != AUTO]


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs to the end with uvloop; known failures become one line and exit status 1."""
    import uvloop

    try:
        uvloop.run(work)
    except (TritonStartError, VoiceForgeError, ValueError, OSError) as error:
        raise _fail(str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for a free one.")] = None,
    model: Models = None,
    triton: Triton = None,
    model_repository: Annotated[Path | None, typer.Option(help="Triton's model repository.")] = None,
    workers: Annotated[int | None, typer.Option(help="Front ends in processes of their own, on the one port.")] = None,
    json_logs: Annotated[bool, typer.Option(help="Log JSON lines.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what Triton prints, too.")] = False,
) -> None:
    """Start the server: Triton, the WebSocket, the playground page."""
    logs.configure(json_lines=json_logs, verbose=verbose)
    settings = _settings(
        host=host, port=port, model=model, triton=triton, model_repository=model_repository, workers=workers
    )
    try:
        names = _prepare(settings)
    except Exception as error:
        raise _fail(f"cannot prepare {', '.join(settings.model)}: {error}") from None

    async def work() -> None:
        doing = f"connecting to Triton at {settings.triton}" if settings.triton else "starting Triton"
        console.print(Text(f"  {doing}", style="dim"))
        if settings.workers == 1:
            async with serving(settings, names) as running:
                loaded = [running.services.default_model, *(i.name for i in running.models)]
                _say_where(running.url, loaded, running.triton, settings)
                settle()
                await running.stopped.wait()
                console.print(DRAINING)
            return
        async with AsyncExitStack() as held:
            triton = None if settings.triton else await held.enter_async_context(embedded_triton(settings, names))
            address = triton.address if triton else settings.triton or ""
            flags = ["--json-logs"] * json_logs + ["--verbose"] * verbose
            workers = await held.enter_async_context(Workers(settings, address, names, flags))
            _say_where(f"http://{settings.host}:{workers.port}", names, triton, settings)
            await workers.until_stopped()
            console.print(DRAINING)

    _run(work())


def _say_where(url: str, models: Sequence[str], triton: EmbeddedTriton | None, settings: Settings) -> None:
    """`models`: the default first."""
    lines = Table.grid(padding=(0, 2))
    lines.add_row("page", f"{url}/", style="bold")
    lines.add_row("stream", f"{url.replace('http', 'ws', 1)}/ws/v1/transcribe")
    lines.add_row("health", f"{url}/readyz   {url}/metrics")
    names = list(dict.fromkeys(models))
    lines.add_row("models" if len(names) > 1 else "model", ", ".join(names))
    lines.add_row("Triton", f"embedded, gRPC {triton.address}" if triton else settings.triton)
    if triton:
        lines.add_row("", triton.metrics_url)
    if settings.workers > 1:
        lines.add_row("workers", str(settings.workers))
    if not settings.keys:
        lines.add_row("access", "clients on this machine only; set VOICEFORGE_API_KEYS to serve others")
    console.print(Panel(lines, title="VoiceForge is ready", expand=False, style="green"))


@contextlib.asynccontextmanager
async def _server(url: str | None, settings: Settings) -> AsyncGenerator[str]:
    """The given server's stream URL, or that of one started for the occasion."""
    if url:
        yield url.rstrip("/").replace("http", "ws", 1) + "/ws/v1/transcribe"
        return
    async with serving(settings, _prepare(settings)) as running:
        yield running.url.replace("http", "ws", 1) + "/ws/v1/transcribe"


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files, any format.")],
    server: Annotated[
        str | None, typer.Option(help="URL of a running server, http://HOST:PORT; else one is started.")
    ] = None,
    form: Annotated[str, typer.Option("--format", "-f", help="txt, json, srt or vtt.")] = "txt",
    realtime: Annotated[bool, typer.Option(help="Send the audio at the speed of speech.")] = False,
    model: Model = None,
    language: Annotated[str, typer.Option(help="Language code.")] = "en",
    api_key: Annotated[str | None, typer.Option(envvar="VOICEFORGE_API_KEY", help="Key of the server.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for FILE.txt etc.; else stdout.")] = None,
) -> None:
    """Transcribe audio files through a server."""
    if form not in FORMATS:
        raise _fail(f"there is no format {form!r}; there is {', '.join(FORMATS)}")
    failed = False

    async def work() -> None:
        nonlocal failed
        settings = _settings(model=[model] if model else None, port=0, max_session_s=24 * 3600.0)
        options: dict[str, str | int] = {"language": language}
        if model and server:
            options["model"] = model
        async with _server(server, settings) as url:
            for file in files:
                try:
                    finals = await _one_file(
                        url, file, realtime=realtime, api_key=api_key, options=options, title=len(files) > 1
                    )
                except (UnreadableAudio, FileNotFoundError, TranscriptionFailed, ConnectionError) as error:
                    console.print(Text(f"{file}: {error}", style="bold red"))
                    failed = True
                    continue
                content = FORMATS[form](finals)
                if output:
                    output.mkdir(parents=True, exist_ok=True)
                    (output / f"{file.stem}.{form}").write_text(content, "utf-8")
                else:
                    sys.stdout.write(content)
                    sys.stdout.flush()

    _run(work())
    if failed:
        raise typer.Exit(1)


async def _one_file(
    url: str, file: Path, *, realtime: bool, api_key: str | None, options: dict[str, str | int], title: bool
) -> list[dict[str, Any]]:
    """Streams a file; on a terminal the running hypothesis and how far it is are shown."""
    audio, rate = read_audio(file)
    total = len(audio) / rate
    finals: list[dict[str, Any]] = []
    shown = Live(console=console, transient=True, refresh_per_second=12) if console.is_terminal else contextlib.nullcontext()
    with shown as live:

        def on_message(message: dict[str, Any]) -> None:
            if message["type"] == "final" and message["transcript"]:
                finals.append(message)
            if live is not None and message["type"] in ("interim", "final"):
                done = message["start"] + message["duration"]
                head = f"{file.name}  {done:.1f} of {total:.1f} s\n" if title or total > 20 else ""
                live.update(
                    Text(head, style="dim")
                    + Text(message["transcript"], style="italic dim" if message["type"] == "interim" else "")
                )

        await stream_file(url, audio, rate, on_message=on_message, realtime=realtime, api_key=api_key, **options)
    return finals


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Look for what would keep VoiceForge from running here, and say how to mend it."""
    findings = checks.run(_settings())
    if as_json:
        sys.stdout.write(json.dumps([f.as_dict() for f in findings], indent=1) + "\n")
    else:
        for finding in findings:
            mark = "[green]ok[/]  " if finding.ok else "[bold red]bad[/] "
            Console().print(f"{mark} {finding.name}: {finding.detail}")
            if not finding.ok:
                Console().print(f"     [bold]{finding.mend}[/]")
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


def main() -> None:
    app()
