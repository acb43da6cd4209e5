"""Word times for real recordings, from a checkpoint that has learned them.

A few hundred recordings are soon known by heart: after fifty rounds a checkpoint had 5 % of the words of its training
recordings wrong and 47 % of other sentences by the same speaker. With word times, recordings can be cut and joined to
sentences that nobody has said (`data.py`).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from export.confidence import judged
from export.nano import corpus
from export.nano.evaluate import RATE, Recogniser

log = logging.getLogger(__name__)


def align(index: Path, recogniser: Recogniser) -> tuple[int, int]:
    """Writes the words of utterances into their shard's index where all are recognised; returns how many of how many."""
    items = corpus.read_shard(index)
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    found = recogniser.transcribe([item.audio() for item in items], words=True)
    n = 0
    for row, item, h in zip(rows, items, found, strict=True):
        said = item.text.split()
        if len(h.words) == len(said) and all(judged(item.text, h.words)):
            row["w"] = [(w, a / RATE, b / RATE) for w, (a, b) in zip(said, h.word_times, strict=True)]
            n += 1
    part = index.with_name(f".{index.name}")
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part.rename(index)
    log.info("%s: %d of %d utterances have word times", index.name, n, len(items))
    return n, len(items)
