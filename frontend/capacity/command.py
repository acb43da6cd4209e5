"""`voiceforge capacity`."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import typer
import uvloop
from rich.console import Console
from rich.status import Status
from rich.text import Text

from frontend.capacity.figures import Step
from frontend.capacity.probe import CannotMeasure, Probe, Target, check_stream
from frontend.capacity.ramp import GAP_S, Run, climb, watch
from frontend.capacity.report import Report, line
from frontend.capacity.speech import NoSpeech, recorded, synthesised

WRONG, VOID, INTERRUPTED = 2, 3, 130
"""Exit codes."""
SENTENCES = 60
console = Console(stderr=True)


class Progress:
    """What goes on, on a line that changes; each finished step on a line that stays."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def now(self, what: str) -> None:
        self._status.update(Text(what, style="dim"))

    def done(self, step: Step) -> None:
        console.print(Text(line(step)))


def capacity(
    triton_metrics: Annotated[str, typer.Option(help="URL of Triton's metrics; of several Tritons with commas.")],
    url: Annotated[str, typer.Option(help="The server.")] = "ws://127.0.0.1:8080",
    metrics: Annotated[str | None, typer.Option(help="URL of the server's metrics, if not /metrics of --url.")] = None,
    key: Annotated[str | None, typer.Option(envvar="VOICEFORGE_API_KEY", help="Key of the server.")] = None,
    model: Annotated[str | None, typer.Option(help="Of the streams; else the server's default.")] = None,
    ramp: Annotated[
        str, typer.Option(help="Numbers of streams; begin with 1, with which the others' word errors are compared.")
    ] = "1,5,10,20,40,60",
    seconds: Annotated[float, typer.Option(min=2, help="Length of a step, or of a window of --watch.")] = 30,
    audio: Annotated[
        Path | None, typer.Option(help="Folder of wav or flac files to say, with the text in FILE.txt beside FILE.wav.")
    ] = None,
    target: Annotated[
        int | None, typer.Option(min=1, help="Streams to be carried in all: how many servers are that?")
    ] = None,
    to_the_end: Annotated[
        bool, typer.Option("--to-the-end", help="Go on though the server refuses or the SLO is broken twice in a row.")
    ] = False,
    watch_s: Annotated[
        float | None, typer.Option("--watch", min=2, help="No load: only read the metrics for so many seconds.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
) -> None:
    """Measure how many streams a server carries, what bounds it, and what to set."""
    run, interrupted = Run(), False
    conditions: dict[str, str] = {}
    try:
        steps = _steps(ramp)
        server = Target.of(url, triton_metrics, metrics, key, model)
        conditions = _conditions(server, audio, seconds, watch_s)
        out.mkdir(parents=True, exist_ok=True)  # better now than after minutes of load
        with Probe(server) as probe, console.status("") as status:
            shown = Progress(status)
            probe.read()
            if watch_s:
                uvloop.run(watch(server, probe, run, watch_s, seconds, shown))
            else:
                uvloop.run(check_stream(server))
                shown.now("preparing what to say")
                clips = recorded(audio) if audio else synthesised(SENTENCES)
                uvloop.run(climb(server, probe, run, steps, clips, seconds, shown, to_the_end=to_the_end))
    except KeyboardInterrupt:
        interrupted, run.ended = True, "it was interrupted, in a step that is not in the report"
    except (CannotMeasure, NoSpeech, OSError) as error:
        if not run.steps:
            console.print(Text(str(error), style="bold red"))
            raise typer.Exit(WRONG) from None
        run.ended = f"the metrics could not be read any more ({error})"
    if not run.steps:
        console.print(Text("interrupted before a step was done: there is nothing to report", style="bold red"))
        raise typer.Exit(INTERRUPTED)
    report = Report(conditions, run.steps, run.ended or "all its steps were done", target)
    files = report.write(out)
    console.print(Text(report.summary().replace("**", ""), style="bold"))
    console.print(Text(f"written: {', '.join(map(str, files))}", style="dim"))
    if interrupted or report.void:
        raise typer.Exit(INTERRUPTED if interrupted else VOID)


def _steps(ramp: str) -> list[int]:
    """Raises `CannotMeasure`."""
    try:
        steps = [int(part) for part in ramp.split(",")]
    except ValueError:
        steps = []
    if not steps or min(steps) < 1:
        raise CannotMeasure(f"--ramp {ramp} is not numbers of streams with commas, as 1,5,10")
    return steps


def _conditions(server: Target, audio: Path | None, seconds: float, watch_s: float | None) -> dict[str, str]:
    load = ", ".join(f"{v:.1f}" for v in os.getloadavg())
    said = f"recordings of {audio}" if audio else f"of {SENTENCES} sentences synthesised for the occasion"
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": server.base + (f", model {server.model}" if server.model else ""),
        "metrics": ", ".join([server.metrics, *server.tritons]),
        "measured from": f"{platform.node()}, {psutil.cpu_count()} cores, load average {load} before"
        + ("; the server shares them" if server.local else ""),
        "VoiceForge here": version("voiceforge"),
        "streams": f"watched for {watch_s:g} s, none of its own" if watch_s else f"{said}, {GAP_S} s of silence after each",
        "length of a step": f"{seconds:g} s",
    }
