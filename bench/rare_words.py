"""How often training has heard a word, and how often it is missed: `python -m bench.rare_words --work runs/nano`.

Errors of the held-out sentences, sorted by how often their words occur in the shards that the checkpoint was trained on.
What docs/decisions.md says about rare words comes from here.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import jiwer
import typer
from rich.console import Console

from bench.quality import table
from export.nano import corpus
from export.nano.evaluate import Recogniser
from export.nano.languages import LANGUAGES
from export.nano.texts import words_of
from export.repository import NANO

OFTEN = (1, 3, 10, 100, 1000)
console = Console()


def missed(heard: Mapping[str, int], said: Iterable[str], recognised: Iterable[str]) -> list[tuple[int, int]]:
    """(missed, said) words of each class of `OFTEN`: never heard, once or twice, … A word is missed when the cheapest
    alignment has another one or none in its place."""
    counts = [(0, 0)] * (len(OFTEN) + 1)
    for text, found in zip(said, recognised, strict=True):
        reference = words_of(text)
        if not reference:
            continue
        aligned = jiwer.process_words(" ".join(reference), " ".join(words_of(found))).alignments[0]
        right = {k for chunk in aligned if chunk.type == "equal" for k in range(chunk.ref_start_idx, chunk.ref_end_idx)}
        for k, word in enumerate(reference):
            at = bisect_right(OFTEN, heard.get(word, 0))
            counts[at] = counts[at][0] + (k not in right), counts[at][1] + 1
    return counts


def row(name: str, counts: Sequence[tuple[int, int]]) -> list[str]:
    all_missed, all_said = (sum(column) for column in zip(*counts, strict=True))
    cells = [f"{100 * m / n:.0f} % of {n}" if n else "" for m, n in counts]
    return [name, *cells, f"{100 * all_missed / max(1, all_said):.1f} % of {all_said}"]


def main(
    work: Annotated[Path, typer.Option(help="Folder of the run: data and test sets.")] = Path("runs/nano"),
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint folder in Hugging Face's format.")] = NANO,
) -> None:
    """Print the share of words that are missed, by how often they were heard in training."""
    heard: dict[str, Counter[str]] = defaultdict(Counter)
    for item in corpus.read(work / "data"):
        heard[item.language].update(words_of(item.text))
    recogniser = Recogniser(checkpoint)
    rows: list[list[str]] = []
    try:
        for code in (c for c in recogniser.vocabulary.languages if c in ("en", *LANGUAGES)):
            corpus.synthesise_test(work / "test", language=code)
            prefix = "" if code == "en" else f"{code}-"
            for name in ("seen", "unseen"):
                items = corpus.read_shard(work / "test" / f"{prefix}{name}.jsonl")
                found = recogniser.transcribe([i.audio() for i in items], language=code)
                rows.append(row(f"{code}-{name}", missed(heard[code], [i.text for i in items], [h.text for h in found])))
    finally:
        recogniser.close()
    columns = ["never", *(f"{a} to {b - 1}" for a, b in itertools.pairwise(OFTEN)), f"{OFTEN[-1]} or more"]
    console.print(table(["words heard in training", *columns, "all"], rows), soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
