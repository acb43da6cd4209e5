"""Makes sure that the model repository holds what is to be served."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from export import manifest
from export.checkpoint import download
from export.repository import IN_THE_BOX, export_silero, export_whisper, model_name, up_to_date
from export.triton_config import Tuning
from frontend.settings import Settings

log = logging.getLogger(__name__)

REAL_WHISPER = "openai/whisper-base.en"
AUTO = "auto"
HUB_TIMEOUT_S = 3

NOTICE = """\
No real Whisper could be had from the Hugging Face hub, so this serves `nano`, the 7-million-parameter checkpoint in the
box. It was trained on synthetic voices: good for trying out, tests and benchmarks, NOT for real recordings.
For real speech: `voiceforge models pull openai/whisper-base.en` where there is a network, then serve again."""


def hub_snapshot(repo: str, *, local: bool) -> Path | None:
    """The folder of a hub checkpoint: from the cache only, or downloaded; None when it cannot be had."""
    try:
        return download(repo, local_files_only=local, etag_timeout=HUB_TIMEOUT_S)
    except Exception as error:  # whatever the hub, the network or the disk says: nano is still there
        log.debug("%s: %s", repo, error)
        return None


def provision(settings: Settings, progress: Callable[[str], None], notice: Callable[[str], None]) -> list[str]:
    """Exports what is missing or has changed since it was exported; returns the names of the models to serve.

    Raises `CheckpointError` for a `--model` that is no Whisper checkpoint, and what the hub raises when it is not there.
    """
    repository = settings.model_repository
    repository.mkdir(parents=True, exist_ok=True)
    if not up_to_date(repository, "silero_vad"):
        export_silero(repository, progress=progress)
    sources = [_best(progress, notice) if source == AUTO else source for source in settings.model]
    return [_exported(source, settings, progress) for source in dict.fromkeys(sources)]


def _best(progress: Callable[[str], None], notice: Callable[[str], None]) -> str:
    """A real Whisper when it can be had, else the checkpoint in the box."""
    if hub_snapshot(REAL_WHISPER, local=True):
        return REAL_WHISPER
    progress(f"looking for {REAL_WHISPER} on the hub")
    if hub_snapshot(REAL_WHISPER, local=False):
        return REAL_WHISPER
    notice(NOTICE)
    return "nano"


def _exported(source: str, settings: Settings, progress: Callable[[str], None]) -> str:
    """The name of a model that the repository now holds as it should."""
    repository, name = settings.model_repository, model_name(source)
    folder = IN_THE_BOX.get(source) or (Path(source) if Path(source).is_dir() else None)
    entry = None if folder else manifest.read(repository)["models"].get(source)
    asked = None if settings.precision == "auto" else settings.precision
    if entry is not None:  # a name, of what was exported or pulled before
        precision = asked or entry["precision"]
        if not up_to_date(repository, source, precision=precision):
            origin = entry["path"] if Path(entry.get("path", "")).is_dir() else entry["source"]
            tuning = Tuning(**entry.get("tuning", {}))
            export_whisper(
                origin,
                repository,
                name=source,
                precision=precision,
                tuning=tuning,
                origin=entry["source"],
                progress=progress,
            )
        return source
    precision = asked or "int8"
    if not up_to_date(repository, name, precision=precision, folder=folder):
        export_whisper(str(folder or source), repository, name=name, precision=precision, progress=progress)
    return name
