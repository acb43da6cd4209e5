"""A setting of sessions against its default: `python -m bench.policy vad.pre_roll=4800 stable.min_confidence=0.5`.

What docs/decisions.md says of such settings comes from here: streamed and offline WER, churn, how soon words are settled on
each test set, and WER of speech without an endpoint. Names are the fields of `SessionSettings`, samples unless named
otherwise. Sessions are played in virtual time, as in `bench.quality`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.measures import local_engine, long_speech, streaming, test_sets
from bench.quality import table
from export.repository import NANO
from frontend.speech.settings import SessionSettings

console = Console()


def changed(settings: Any, name: str, value: object) -> Any:
    """`settings` with the field `a.b` set. Raises `ValueError` for a field that is not there or a value of another type."""
    first, _, rest = name.partition(".")
    known = {f.name: getattr(settings, f.name) for f in fields(settings)}
    if first not in known or bool(rest) != is_dataclass(known[first]):
        names = ", ".join(f"{n}.…" if is_dataclass(v) else n for n, v in known.items())
        raise ValueError(f"{name!r}: the settings are {names}")
    before = known[first]
    if rest:
        return replace(settings, **{first: changed(before, rest, value)})
    if before is not None and not isinstance(value, (int, float) if isinstance(before, float) else type(before)):
        raise ValueError(f"{name} is like {before!r}, not {value!r}")
    return replace(settings, **{first: value})


def assigned(text: str) -> SessionSettings:
    """The defaults but for `name=value`; a value that is no Python literal is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not name=value")
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        literal = value
    return changed(SessionSettings(), name, literal)


def report(streamed: Mapping[str, Mapping[str, Any]], unbroken: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            where,
            what,
            r["wer"],
            r.get("gap", ""),
            r.get("churn", ""),
            *r.get("settled_after_s", {"p50": "", "p95": ""}).values(),
        ]
        for where, found in streamed.items()
        for what, r in found.items()
    ]
    told = table(["set", "setting", "WER %", "gap", "churn", "settled after, s, p50", "p95"], rows)
    if unbroken:
        rows = [[what, *(r["wer"] for r in found.values())] for what, found in unbroken.items()]
        told += "\n" + table(["without an endpoint, WER %", *next(iter(unbroken.values()))], rows)
    return told


def main(
    setting: Annotated[list[str], typer.Argument(help="name=value; each is tried by itself.")],
    work: Annotated[Path, typer.Option(help="Folder of the test sets; made when absent.")] = Path("runs/nano"),
    shared: Annotated[Path, typer.Option(help="Recordings: kathleen_en.")] = Path("../shared/speech"),
    checkpoint: Path = NANO,
    limit: Annotated[int, typer.Option(help="Utterances of each set, heard five times each.")] = 100,
    hours: Annotated[float, typer.Option(help="Of speech without an endpoint; 0: none.")] = 0.25,
) -> None:
    """Sessions with each setting, beside sessions as they are."""
    try:
        tried = {"as it is": SessionSettings()} | {text: assigned(text) for text in setting}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    sets = {name: items for name, items in test_sets(work, shared, limit).items() if name != "unseen"}
    engine = local_engine(checkpoint, work / "quality-repository")
    try:
        streamed = {name: streaming(engine, items, tried) for name, items in sets.items()}
        unbroken = {n: long_speech(engine, sets["seen"], hours, s) for n, s in tried.items()} if hours else {}
    finally:
        engine.close()
    console.print(report(streamed, unbroken), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
