"""What a GPU machine cannot make itself: speech, and the peer's models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.gpu import checkpoint, peer, speech
from bench.gpu.plan import FULL
from export.repository import NANO


def collect(out: Path) -> Iterator[str]:
    """Into the folder; says what was made, or why not."""
    speech.save(speech.clips(out, FULL.n_clips), out / speech.FILE)
    yield f"{speech.FILE}: {FULL.n_clips} sentences"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "base"
        checkpoint.write(made, checkpoint.SHAPES["base"], FULL.n_tokens)
        try:
            for name, source in (("nano", NANO), ("base", made)):
                peer.convert(source, peer.folder(out, name))
                yield f"{peer.folder(out, name).name}: for faster-whisper"
        except ImportError as error:
            yield f"the peer is left out: {error} (its converter wants transformers and torch: requirements/reference.txt)"
