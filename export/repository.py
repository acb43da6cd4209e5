"""Writes models into a Triton model repository: graphs, configs, tokenizer files, manifest."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export
from export import manifest, silero, triton_config, whisper
from export.checkpoint import Checkpoint, open_checkpoint
from export.engine import confidence

log = logging.getLogger(__name__)
Progress = Callable[[str], None]

CHECKPOINTS = Path(export.__file__).parent / "nano" / "checkpoint"
"""The checkpoint in the box."""

FULL_WINDOW_S = [30]
ENGINE_FILES = ("__init__.py", "alignment.py", "confidence.py", "scheduler.py", "scores.py", "vocabulary.py", "windows.py")
TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
"""Whisper's own: where the text at one is doubtful, it is decoded again at the next."""


def exporter_version() -> str:
    """A hash of the code that exports and of the engine it copies: a model of another version is exported again."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("*.py"), *folder.glob("engine/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def up_to_date(repository: Path, name: str, *, precision: str | None = None, folder: Path | None = None) -> bool:
    """True when the repository holds the model, untouched, as this version would export it.

    `folder` is the local checkpoint that it was made from, if there is one: it must not have changed since.
    """
    entry = manifest.read(repository)["models"].get(name)
    if entry is None or entry.get("exporter") != exporter_version() or (precision and entry.get("precision") != precision):
        return False
    if folder and open_checkpoint(str(folder)).hashes() != entry.get("source_sha256"):
        return False
    return not manifest.changed(repository, name)


def _quiet(_: str) -> None:
    pass


def model_name(source: str) -> str:
    """`openai/whisper-base.en` → `base.en`: the name in `model=` and, with `whisper_` before it, in Triton."""
    name = source.rstrip("/").rsplit("/", 1)[-1]
    return name.removeprefix("whisper-").removeprefix("whisper_").replace(" ", "-")


def window_lengths(checkpoint: Checkpoint) -> list[int]:
    """Window lengths in seconds. Only a checkpoint that says so in `voiceforge.json` tolerates less than 30 s.

    Official checkpoints repeat themselves on shorter windows without fine-tuning.
    """
    return declared(checkpoint).get("windows_s", FULL_WINDOW_S)


def declared(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of itself in `voiceforge.json`: `windows_s`, `temperatures`, `context` (whether it was trained
    to go on from what was said before). Empty for checkpoints that were not made for us."""
    path = checkpoint.folder / "voiceforge.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def is_multilingual(checkpoint: Checkpoint) -> bool:
    """True when the checkpoint's prompt names a language; `.en` models and `nano` take none."""
    declared = checkpoint.generation.get("is_multilingual")
    return bool(declared) if declared is not None else checkpoint.config["vocab_size"] >= 51865


def export_whisper(
    source: str, repository: Path, *, precision: str = "fp32", name: str | None = None, idle_s: int | None = None,
    max_rows: int = 32, origin: str | None = None, progress: Progress = _quiet,
) -> str:  # fmt: skip
    """Exports a checkpoint as `whisper_<name>` and `whisper_<name>_encoder`; returns `name`.

    `precision`: fp32, fp16 (for GPUs) or int8 (dynamic, for CPUs). `origin` is what the manifest names as the source, if
    `source` is only a cache's folder. A model appears in the repository whole or not at all.
    Raises `CheckpointError` for what is no Whisper checkpoint, `ValueError` for an unknown precision.
    """
    if precision not in whisper.PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(whisper.PRECISIONS)}")
    checkpoint = open_checkpoint(source)
    name = name or model_name(checkpoint.source)
    engine, encoder = f"whisper_{name}", f"whisper_{name}_encoder"
    dtype = "float16" if precision == "fp16" else "float32"
    idle = idle_s or triton_config.ENGINE_IDLE_S
    repository.mkdir(parents=True, exist_ok=True)
    # beside the repository: Triton would take a half-written folder inside for a model
    parts = {n: repository.resolve().with_name(f".{repository.resolve().name}.{n}.part") for n in (engine, encoder)}
    for part in parts.values():
        shutil.rmtree(part, ignore_errors=True)
        (part / "1").mkdir(parents=True)

    progress(f"{name}: encoder, {precision}")
    whisper.save(whisper.encoder(checkpoint, dtype), parts[encoder] / "1" / "model.onnx", precision)
    (parts[encoder] / "config.pbtxt").write_text(triton_config.whisper_encoder(encoder, checkpoint.config["d_model"]))

    progress(f"{name}: decoder, {precision}")
    version = parts[engine] / "1"
    whisper.save(whisper.cross(checkpoint, dtype), version / "cross.onnx", precision)
    whisper.save(whisper.decoder(checkpoint, dtype), version / "decoder.onnx", precision)
    shutil.copyfile(checkpoint.folder / "tokenizer.json", version / "tokenizer.json")
    if (calibration := checkpoint.folder / confidence.FILE).exists():
        shutil.copyfile(calibration, version / confidence.FILE)
    (version / "generation_config.json").write_text(json.dumps(checkpoint.generation))
    source_folder = Path(__file__).parent / "engine"
    shutil.copyfile(source_folder / "triton_model.py", version / "model.py")
    (version / "whisper_engine").mkdir()
    for file in ENGINE_FILES:
        shutil.copyfile(source_folder / file, version / "whisper_engine" / file)
    windows = window_lengths(checkpoint)
    parameters: dict[str, str | int] = {
        "encoder": encoder,
        "encoder_batch": triton_config.ENCODER_BATCH,
        "windows_s": ",".join(map(str, windows)),
        "multilingual": "true" if is_multilingual(checkpoint) else "false",
        "temperatures": ",".join(map(str, declared(checkpoint).get("temperatures", TEMPERATURES))),
        "context": "true" if declared(checkpoint).get("context", True) else "false",
        "max_rows": max_rows,
        "decode_threads": 1,
    }
    (parts[engine] / "config.pbtxt").write_text(triton_config.whisper(engine, parameters, idle_s=idle))

    for target, part in parts.items():
        shutil.rmtree(repository / target, ignore_errors=True)
        part.rename(repository / target)
    facts = {
        "precision": precision,
        "windows_s": windows,
        "multilingual": is_multilingual(checkpoint),
        "kind": "whisper",
        "exporter": exporter_version(),
    }
    origin = origin or checkpoint.source
    manifest.record(repository, name, origin, checkpoint.hashes(), [repository / n for n in parts], **facts)
    progress(f"{name}: ready in {repository}")
    return name


def export_silero(repository: Path, *, idle_s: int | None = None, progress: Progress = _quiet) -> str:
    """Exports Silero VAD from the installed `faster-whisper` as `silero_vad`."""
    source = silero.asset()
    folder = repository / "silero_vad"
    progress("silero_vad")
    silero.graph(source).save(folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(triton_config.silero_vad(idle_s=idle_s or triton_config.ENGINE_IDLE_S))
    manifest.record(
        repository,
        "silero_vad",
        f"faster-whisper/{source.name}",
        {source.name: manifest.sha256(source)},
        [folder],
        kind="vad",
        exporter=exporter_version(),
    )
    return "silero_vad"
