"""`manifest.json` of a model repository: what each model was made from, so that a checksum can say if it still is."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime

FILE = "manifest.json"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(repository: Path) -> dict[str, Any]:
    path = repository / FILE
    return json.loads(path.read_text("utf-8")) if path.exists() else {"models": {}}


def record(
    repository: Path, name: str, source: str, source_hashes: dict[str, str], folders: list[Path], **facts: Any
) -> None:
    """Adds or replaces the entry of one model: its source, the hashes of what went in and came out, and tool versions."""
    content = read(repository)
    files = {str(p.relative_to(repository)): sha256(p) for f in folders for p in sorted(f.rglob("*")) if p.is_file()}
    content["models"][name] = {
        "source": source,
        "source_sha256": source_hashes,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {m.__name__: m.__version__ for m in (onnx, onnxruntime, numpy)},  # by module: onnxruntime-gpu is one too
        **facts,
        "sha256": files,
    }
    _write(repository, content)


def amend(repository: Path, name: str, files: list[str], **facts: Any) -> None:
    """Other facts about a model, and hashes of the files that were changed for them."""
    content = read(repository)
    content["models"][name] |= facts
    content["models"][name]["sha256"] |= {f: sha256(repository / f) for f in files}
    _write(repository, content)


def _write(repository: Path, content: dict[str, Any]) -> None:
    part = repository / f".{FILE}"
    part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    part.replace(repository / FILE)


def changed(repository: Path, name: str) -> list[str]:
    """The files of a model that are missing or no longer have the recorded hash."""
    entry = read(repository)["models"].get(name, {"sha256": {}})
    return [f for f, digest in entry["sha256"].items() if not (repository / f).exists() or sha256(repository / f) != digest]
