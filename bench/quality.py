"""What users read, measured: `python -m bench.quality` plays test sets to sessions in virtual time.

Streaming policies side by side (WER, gap to an offline pass, churn, how soon words are settled, what it costs), an hour
of sentences without endpoints, word times against the synthesiser's, calibration of confidence, and what is "heard" in
silence and noise. Writes docs/quality/README.md, its pictures, and quality.json.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from bench import pictures
from bench.local import RATE, LocalEngine
from bench.measures import (
    LEAD,
    TRAIL,
    confidence,
    local_engine,
    long_speech,
    multilingual,
    nothing_said,
    streaming,
    test_sets,
    word_times,
)
from export.checkpoint import open_checkpoint
from export.nano import corpus
from export.nano.evaluate import NORMALISER
from export.repository import IN_THE_BOX, NANO

console = Console()
OUT = Path(__file__).parent.parent / "docs" / "quality"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [headings, ["---"] * len(headings), *rows]]
    return "\n".join(lines) + "\n"


def report(known: dict[str, Any]) -> str:
    """docs/quality/README.md, of what quality.json holds."""
    found = {name: part["found"] for name, part in known.items()}
    n = {name: f", {part['measured']['utterances']} utterances at most" for name, part in known.items()}
    parts = ["# Quality, measured\n"]
    measured = known["streaming"]["measured"]
    parts.append(
        f"`python -m bench.quality`; checkpoint `{measured['checkpoint']}`, fp32, a beam of {measured['beam_size']}, "
        f"normaliser {NORMALISER}, {measured['machine']}, one thread.\n"
    )
    parts.append(
        "Sessions are played in virtual time, each decode taking 30 ms; each clip is heard behind five different silences. "
        "Gap: WER of streamed finals minus WER of one offline pass over the same audio. Churn: words of partials that later "
        "changed, per final word. Settled after: from a word's end to the partial or final in which it is settled.\n"
    )
    for name, rows in found["streaming"].items():
        parts.append(f"## Streaming policies: {name}{n['streaming']}\n")
        body = [
            [
                policy, r["wer"], r.get("gap", ""), r.get("churn", ""), r.get("settled_words_changed", ""),
                " / ".join(str(v) for v in r["settled_after_s"].values()) if "gap" in r else "",
                r.get("decodes_per_utterance", ""), r.get("encoded_s_per_s", ""), r.get("engine_s_per_s", ""),
            ]
            for policy, r in rows.items()
        ]  # fmt: skip
        parts.append(table(
            ["policy", "WER %", "gap", "churn", "settled words changed", "settled after, s (p50 / p95)",
             "decodes an utterance",
             "seconds encoded per second", "engine seconds per second"], body,
        ))  # fmt: skip
    parts.append(f"## Speech without an endpoint{n['long_speech']}, again and again\n")
    columns = ("one_by_one", "cut_by_hand", "wer", "minutes", "finals", "same_word_on_both_sides_of_a_cut")
    rows = [[k, *(v[c] for c in columns)] for k, v in found["long_speech"].items()]
    parts.append(table(
        ["", "WER %, sentences one by one", "in windows cut by hand between sentences", "as a session", "minutes", "finals",
         "same word on both sides of a cut"], rows,
    ))  # fmt: skip
    times = found["word_times"]
    parts.append("## Word times\n")
    parts.append(f"Against the synthesiser's own, {times['edges']} edges of rightly recognised words: median "
                 f"{times['median_ms']:.0f} ms, p95 {times['p95_ms']:.0f} ms.\n")  # fmt: skip
    parts.append(f"## Word confidence{n['confidence']}\n\nExpected calibration error, 10 bins of equal width.\n")
    rows = [[k, v["words"], v["right"], v["ece_as_decoded"], v["ece"]] for k, v in found["confidence"].items()]
    parts.append(table(["set", "words", "share right", "as decoded", "calibrated"], rows))
    parts.append("![reliability](reliability.png)\n")
    if rows := found.get(LANGUAGES):
        parts.append(f"## Languages{n[LANGUAGES]}\n")
        parts.append(
            f"`{known[LANGUAGES]['measured']['checkpoint']}`; sentences not trained on, in voices trained on (`seen`) "
            "and others. Found in 2 s: the language, from the first two seconds. `multi`: sessions that are not told it.\n"
        )
        body = [[k, *(v[c] for c in ("wer", "wer_streamed", "wer_multi", "found_in_2_s", "found_in_finals", "utterances"))]
                for k, v in rows.items()]  # fmt: skip
        parts.append(table(
            ["set", "WER %, language told", "streamed", "streamed, `multi`", "found in 2 s", "right in finals",
             "utterances"], body,
        ))  # fmt: skip
    parts.append("## What holds no speech\n")
    rows = [[k, v["seconds"], v["words"], "; ".join(v["texts"])] for k, v in found["nothing_said"].items()]
    parts.append(table(["audio", "seconds", "words told", ""], rows))
    parts.append("## A stream over time\n\n![stream](stream.png)\n")
    return "\n".join(parts)


@dataclass
class Bench:
    """What the parts are measured with."""

    engine: LocalEngine
    sets: dict[str, Sequence[corpus.Item]]
    shared: Path
    hours: float


PARTS: dict[str, Callable[[Bench], Any]] = {
    "streaming": lambda b: {n: streaming(b.engine, items) for n, items in b.sets.items() if n != "unseen"},
    "long_speech": lambda b: long_speech(b.engine, b.sets["seen"], b.hours),
    "word_times": lambda b: word_times(b.engine, b.sets["seen"]),
    "confidence": lambda b: confidence(b.engine, b.sets),
    "nothing_said": lambda b: nothing_said(b.engine, b.shared),
}
LANGUAGES = "languages"
ALL = [*PARTS, LANGUAGES]


def keep(out: Path, part: str, measured: Mapping[str, Any], found: Any) -> None:
    """Writes a part into quality.json at once, and the page when all parts are there, of the same checkpoint."""
    path = out / "quality.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[part] = {"measured": measured, "found": found}
    path.write_text(json.dumps(known, indent=1) + "\n")
    missing = [name for name in ALL if name not in known]
    versions = {known[name]["measured"]["files"] for name in PARTS if name in known}
    if missing or len(versions) > 1:
        old = [name for name in PARTS if name in known and known[name]["measured"]["files"] != measured["files"]]
        why = f"{', '.join(missing)} missing" if missing else f"{', '.join(old)} are of another checkpoint"
        console.print(f"README.md is not written: {why}; --part measures one")
        return
    (out / "README.md").write_text(report(known))


def circumstances(checkpoint: Path, limit: int) -> dict[str, Any]:
    """What a part was measured with; `files` is the beginning of a hash of the checkpoint's."""
    opened = open_checkpoint(str(checkpoint))
    files = hashlib.sha256(json.dumps(opened.hashes(), sort_keys=True).encode()).hexdigest()
    return {
        "checkpoint": checkpoint.name,
        "files": files[:12],
        "beam_size": opened.beam_size,
        "utterances": limit,
        "machine": platform.machine(),
    }


def main(
    part: Annotated[list[str], typer.Option(help=f"{', '.join(ALL)}; once for each.")] = ALL,
    work: Annotated[Path, typer.Option(help="Folder of the test sets; made when absent.")] = Path("runs/nano"),
    shared: Annotated[Path, typer.Option(help="Recordings: noises, kathleen_en.")] = Path("../shared/speech"),
    checkpoint: Path = NANO,
    several: Annotated[Path, typer.Option("--multilingual", help="Checkpoint of several languages.")] = IN_THE_BOX[
        "nano-multi"
    ],
    limit: Annotated[int, typer.Option(help="Utterances of each set.")] = 400,
    hours: Annotated[float, typer.Option(help="Of speech without endpoints.")] = 1.0,
    out: Path = OUT,
) -> None:
    """Measure, one part after the other; each is written down when it is done."""
    if unknown := sorted({*part} - {*ALL}):
        raise typer.BadParameter(f"{', '.join(unknown)}: the parts are {', '.join(ALL)}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as repository:
        if {*part} & {*PARTS}:
            bench = Bench(local_engine(checkpoint, Path(repository)), test_sets(work, shared, limit), shared, hours)
            measured = circumstances(checkpoint, limit)
            try:
                for name in (n for n in PARTS if n in part):
                    began = time.monotonic()
                    found = PARTS[name](bench)
                    keep(out, name, measured, found)
                    console.print(f"{name}: {time.monotonic() - began:.0f} s")
                    if name == "confidence":
                        pictures.reliability(found, out / "reliability.png")
                example = next(i for i in bench.sets["seen"] if 4.0 < i.n_samples / RATE < 6.0)
                pictures.stream(bench.engine, np.concatenate([LEAD, example.audio(), TRAIL]), out / "stream.png")
            finally:
                bench.engine.close()
        if LANGUAGES in part:
            keep(out, LANGUAGES, circumstances(several, limit), multilingual(several, work, Path(repository), limit))


if __name__ == "__main__":
    typer.run(main)
