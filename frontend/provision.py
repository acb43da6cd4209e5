"""Makes sure that the model repository holds what is to be served."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from export.repository import CHECKPOINTS, export_silero, export_whisper, model_name, up_to_date
from frontend.settings import Settings

log = logging.getLogger(__name__)

REAL_WHISPER = "openai/whisper-base.en"
IN_THE_BOX = "nano"
HUB_TIMEOUT_S = 3

NOTICE = """\
No real Whisper could be had from the Hugging Face hub, so this serves `nano`, the 7-million-parameter checkpoint in the
box. It was trained on synthetic voices: good for trying out, tests and benchmarks, NOT for real recordings.
For real speech: `voiceforge models pull openai/whisper-base.en` where there is a network, then serve again."""


def hub_snapshot(repo: str, *, local: bool) -> str | None:
    """The folder of a hub checkpoint: from the cache only, or downloaded; None when it cannot be had."""
    from huggingface_hub import snapshot_download

    from export.checkpoint import HUB_PATTERNS

    try:
        return snapshot_download(repo, allow_patterns=HUB_PATTERNS, local_files_only=local, etag_timeout=HUB_TIMEOUT_S)
    except Exception as error:  # whatever the hub, the network or the disk says: nano is still there
        log.debug("%s: %s", repo, error)
        return None


def provision(settings: Settings, progress: Callable[[str], None], notice: Callable[[str], None]) -> str:
    """Exports what is missing or has changed since it was exported; returns the name of the model to serve.

    Raises `CheckpointError` for a `--model` that is no Whisper checkpoint, and what the hub raises when it is not there.
    """
    repository = settings.model_repository
    repository.mkdir(parents=True, exist_ok=True)
    if not up_to_date(repository, "silero_vad"):
        export_silero(repository, progress=progress)
    source = settings.model
    if source == "auto":
        if hub_snapshot(REAL_WHISPER, local=True) is None:
            progress(f"looking for {REAL_WHISPER} on the hub")
        if hub_snapshot(REAL_WHISPER, local=True) or hub_snapshot(REAL_WHISPER, local=False):
            source = REAL_WHISPER
        else:
            source = IN_THE_BOX
            notice(NOTICE)
    name = model_name(source)
    boxed = source == IN_THE_BOX
    precision = settings.precision if settings.precision != "auto" else "fp32" if boxed else "int8"
    folder = CHECKPOINTS if boxed else Path(source) if Path(source).is_dir() else None
    if not up_to_date(repository, name, precision=precision, folder=folder):
        export_whisper(str(folder or source), repository, name=name, precision=precision, progress=progress)
    return name
