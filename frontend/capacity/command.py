"""`voiceforge capacity`."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from frontend.capacity.errors import CannotWrite, CapacityError, InvalidOption
from frontend.capacity.own import own_server
from frontend.capacity.probe import Probe
from frontend.capacity.ramp import GAP_S, Run, climb
from frontend.capacity.report import Report
from frontend.capacity.speech import recorded, synthesised
from frontend.capacity.step import Step
from frontend.capacity.tables import HEADER, line
from frontend.capacity.target import Target, check_stream

WRONG, VOID, INTERRUPTED = 2, 3, 130
"""Exit codes: an error, which is told with its code; a step is void; Ctrl-C."""
SENTENCES = 60
console = Console(stderr=True)


def say(text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


@dataclass
class Progress:
    """What goes on, on a line that changes; each finished step on a line that stays."""

    status: Status
    began: bool = False

    def now(self, what: str) -> None:
        self.status.update(Text(what, style="dim"))

    def done(self, step: Step) -> None:
        if not self.began:
            say(HEADER, "dim")
            self.began = True
        say(line(step), "" if step.verdict.met else "yellow")


def capacity(
    server: Annotated[
        str | None, typer.Option(help="URL of a running server, http://HOST:PORT; else one is started.")
    ] = None,
    triton_metrics: Annotated[
        str, typer.Option(help="URL of the Triton metrics of --server; of several Tritons with commas.")
    ] = "",
    metrics: Annotated[str | None, typer.Option(help="URL of the server's own metrics, if not its /metrics.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="VOICEFORGE_API_KEY", help="Key of the server.")] = None,
    model: Annotated[str | None, typer.Option(help="Of the streams; else the server's default.")] = None,
    ramp: Annotated[
        str, typer.Option(help="Numbers of streams; begin with 1, with which the others' word errors are compared.")
    ] = "1,5,10,20,40,60",
    seconds: Annotated[float, typer.Option(min=5, help="Length of a step.")] = 30,
    audio: Annotated[
        Path | None, typer.Option(help="Folder of wav or flac files to say, with the text in FILE.txt beside FILE.wav.")
    ] = None,
    target: Annotated[
        int | None, typer.Option(min=1, help="Streams to be carried in all: how many servers are that?")
    ] = None,
    to_the_end: Annotated[
        bool, typer.Option("--to-the-end", help="Go on though the server refuses or the SLO is broken twice in a row.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("capacity-report"),
) -> None:
    """Measure how many streams a server carries, what is full first, and what to set."""
    import uvloop

    run, conditions = Run(), dict[str, str]()
    error: CapacityError | None = None
    interrupted = False
    try:
        steps = _steps(ramp)
        _prepare(out)
        with console.status("") as status:
            shown = Progress(status)
            where = own_server(model, triton_metrics, shown.now)
            if server:
                where = contextlib.nullcontext(Target.of(server, triton_metrics, metrics, api_key, model))

            async def measure() -> None:
                async with where as measured:
                    conditions.update(_conditions(measured, audio, f"{ramp} streams, {seconds:g} s each", own=not server))
                    await check_stream(measured)
                    with Probe(measured) as probe:
                        probe.read()
                        shown.now("preparing what to say")
                        clips = recorded(audio) if audio else synthesised(SENTENCES)
                        await climb(measured, probe, run, steps, clips, seconds, shown, to_the_end=to_the_end)

            uvloop.run(measure())
    except KeyboardInterrupt:
        interrupted, run.ended = True, "it was interrupted, in a step that is not in the report"
    except CapacityError as caught:
        error, run.ended = caught, f"of {caught.code}"
    report = Report(conditions, run.steps, run.ended, target) if run.steps else None
    if report:
        error = _tell(report, out) or error
    elif interrupted:
        say("interrupted before a step was done: there is nothing to report")
    if error:
        say(f"{error.code}: {error}", "bold red")
        raise typer.Exit(WRONG)
    raise typer.Exit(INTERRUPTED if interrupted else VOID if report and report.void else 0)


def _tell(report: Report, out: Path) -> CannotWrite | None:
    """On the terminal first: nothing can go wrong there."""
    say(report.summary().replace("**", ""), "bold")
    try:
        files = report.write(out)
    except OSError as error:
        return CannotWrite(f"the report could not be written to {out} ({error}); what came of it is said above")
    say(f"written: {', '.join(map(str, files))}", "dim")
    return None


def _steps(ramp: str) -> list[int]:
    """Raises `InvalidOption`."""
    try:
        steps = [int(part) for part in ramp.split(",")]
    except ValueError:
        steps = []
    if not steps or min(steps) < 1:
        raise InvalidOption(f"--ramp {ramp} is not numbers of streams with commas; give for example --ramp 1,5,10")
    return steps


def _prepare(out: Path) -> None:
    """Better now than after minutes of load. Raises `CannotWrite`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise CannotWrite(f"--out {out} takes no files ({error}); give another folder") from None


def _conditions(target: Target, audio: Path | None, ramp: str, *, own: bool) -> dict[str, str]:
    load = ", ".join(f"{v:.1f}" for v in os.getloadavg())
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": target.base + (", started by this command" if own else ""),
        "model": target.model or "the server's default",
        "metrics": ", ".join([target.metrics, *target.tritons]),
        "measured from": f"{platform.node()}, {psutil.cpu_count()} cores, load average before: {load}"
        + ("; the server shares them" if target.local else ""),
        "VoiceForge here": version("voiceforge"),
        "ramp": ramp,
        "said": (f"recordings of {audio}" if audio else f"{SENTENCES} sentences, synthesised")
        + f", {GAP_S} s of silence after each, in real time",
    }
