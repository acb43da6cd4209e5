"""Checks a downloaded checkpoint against the hashes that the hub publishes for its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub.hf_api import ModelInfo

from export.checkpoint import CheckpointError
from export.manifest import sha256


def _git_blob(path: Path) -> str:
    """git's id of a file's content, which the hub gives for files that are not in LFS."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def verify(folder: Path, info: ModelInfo) -> int:
    """Compares every downloaded file with the hub's SHA-256 (LFS) or git id; returns how many were compared.

    Raises `CheckpointError` naming the first file that differs.
    """
    checked = 0
    for sibling in info.siblings or []:
        path = folder / sibling.rfilename
        if not path.exists():
            continue
        wanted = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if wanted is None:
            continue
        if (sha256(path) if sibling.lfs else _git_blob(path)) != wanted:
            path.resolve().unlink()  # the cache's link and its blob: else the next pull would find them again
            path.unlink(missing_ok=True)
            raise CheckpointError(f"{sibling.rfilename} does not match the hub's checksum and was deleted; pull again")
        checked += 1
    return checked
