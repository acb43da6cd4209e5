"""`tokenizer.json` of a checkpoint, put together from the older files where there is none.

Fine-tunes of the first years carry `vocab.json`, `merges.txt` and `added_tokens.json` (or the added tokens inside
`tokenizer_config.json`) only. Whisper's tokenizer is byte-level BPE, as in transformers' `WhisperTokenizer`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "tokenizer.json"
OLDER = ("vocab.json", "merges.txt")
OPTIONAL = ("added_tokens.json", "tokenizer_config.json")


def files(folder: Path) -> list[Path]:
    """What the tokenizer is made from; empty when something is missing."""
    if (folder / FILE).exists():
        return [folder / FILE]
    older = [folder / name for name in OLDER]
    return older + [folder / n for n in OPTIONAL if (folder / n).exists()] if all(p.exists() for p in older) else []


def _added(folder: Path) -> dict[int, tuple[str, bool]]:
    """Added tokens by id: content, and whether it is special."""
    added: dict[int, tuple[str, bool]] = {}
    extra, config = (folder / name for name in OPTIONAL)
    if config.exists():
        listed: dict[str, Any] = json.loads(config.read_text("utf-8")).get("added_tokens_decoder") or {}
        added = {int(i): (t["content"], bool(t.get("special"))) for i, t in listed.items()}
    if extra.exists():
        for content, i in json.loads(extra.read_text("utf-8")).items():
            added.setdefault(i, (content, content.startswith("<|")))
    return added


def tokenizer_json(folder: Path) -> str:
    """The text of `tokenizer.json`. Raises `ValueError` when the older files do not fit together."""
    if (folder / FILE).exists():
        return (folder / FILE).read_text("utf-8")
    vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text("utf-8"))
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    added = {i: token for i, token in sorted(_added(folder).items()) if token[0] not in vocabulary}
    if list(added) != list(range(len(vocabulary), len(vocabulary) + len(added))):
        raise ValueError("the added tokens do not go on where vocab.json ends; tokenizer.json of the base model is needed")
    specials = {i: (t, True) for t, i in vocabulary.items() if t.startswith("<|") and t.endswith("|>")}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [
                {
                    "id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                    "normalized": False, "special": special,
                }
                for i, (content, special) in sorted((specials | added).items())
            ],
            "pre_tokenizer": byte_level,
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
        }
    )  # fmt: skip
