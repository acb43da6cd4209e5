"""Writes models into a Triton model repository: graphs, configs, tokenizer files, manifest."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import export
from export import manifest, silero, slots, triton_config, whisper
from export.checkpoint import FRAMES_PER_SECOND, POLICY, Checkpoint, CheckpointError, open_checkpoint
from export.engine import confidence
from export.engine.vocabulary import Vocabulary
from export.triton_config import FOR_A_CPU, Tuning

log = logging.getLogger(__name__)
Progress = Callable[[str], None]

IN_THE_BOX = {folder.name: folder for folder in sorted((Path(export.__file__).parent / "nano" / "checkpoints").iterdir())}
"""Checkpoints that come with the project, by name."""
NANO = IN_THE_BOX["nano"]

ENGINE_FILES = (
    "__init__.py", "alignment.py", "batch.py", "confidence.py", "growing.py", "jobs.py", "scheduler.py", "scores.py",
    "search.py", "slots.py", "usage.py", "vocabulary.py", "windows.py",
)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")
"""It goes into folder names, Triton's config and URLs."""
ENCODER_SUFFIX = "_encoder"
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
    return re.sub(r"[^A-Za-z0-9._-]", "-", name.removeprefix("whisper-").removeprefix("whisper_"))


def window_lengths(checkpoint: Checkpoint) -> list[float]:
    """Window lengths in seconds, ascending. Only a checkpoint that says so in `voiceforge.json` tolerates less than all.

    Official checkpoints repeat themselves on shorter windows without fine-tuning; `bench/context_sweep.py` measures it.
    Raises `CheckpointError` for lengths that the encoder does not take.
    """
    lengths: list[float] = sorted(checkpoint.policy.get("windows_s") or [checkpoint.window_s])
    if wrong := [s for s in lengths if not 0 < s <= checkpoint.window_s or s * FRAMES_PER_SECOND % 1]:
        raise CheckpointError(
            f"{checkpoint.source}: {POLICY} has windows_s {wrong}; they are multiples of 0.02 s up to {checkpoint.window_s}"
        )
    return lengths


def vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """Raises `CheckpointError` when the tokenizer is not Whisper's."""
    try:
        return Vocabulary(checkpoint.tokenizer, checkpoint.generation, multilingual=checkpoint.multilingual)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.source}: {error}") from None


def export_whisper(
    source: str, repository: Path, *, precision: str = "fp32", name: str | None = None, idle_s: int | None = None,
    tuning: Tuning = FOR_A_CPU, origin: str | None = None, progress: Progress = _quiet,
) -> str:  # fmt: skip
    """Exports a checkpoint as `whisper_<name>` and `whisper_<name>_encoder`; returns `name`.

    `precision`: fp32, fp16 (for GPUs) or int8 (dynamic, for CPUs). `tuning`: for what machine.
    `origin` is what the manifest names as the source, if `source` is only a cache's folder. A model appears in the
    repository whole or not at all.
    Raises `CheckpointError` for what is no Whisper checkpoint, `ValueError` for an unknown precision.
    """
    if precision not in whisper.PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(whisper.PRECISIONS)}")
    if tuning.in_slots and precision == "int8":
        raise ValueError("int8 is for CPUs; a GPU takes fp16 or fp32")
    checkpoint = open_checkpoint(source)
    name = name or model_name(checkpoint.source)
    if not NAME.fullmatch(name) or name.endswith(ENCODER_SUFFIX):
        raise ValueError(f"{name!r} cannot name a model: letters, digits, '.', '-' and '_', not ending in {ENCODER_SUFFIX}")
    tokens, windows, policy = vocabulary(checkpoint), window_lengths(checkpoint), checkpoint.policy
    beam_size, padding_s = checkpoint.beam_size, checkpoint.padding_s
    engine, encoder = f"whisper_{name}", f"whisper_{name}{ENCODER_SUFFIX}"
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
    (parts[encoder] / "config.pbtxt").write_text(
        triton_config.whisper_encoder(encoder, checkpoint.config["d_model"], tuning.encoder_batch)
    )

    progress(f"{name}: decoder, {precision}")
    version = parts[engine] / "1"
    whisper.save(whisper.cross(checkpoint, dtype), version / "cross.onnx", precision)
    if tuning.in_slots:
        rules = tokens.rules(len(checkpoint.tensor("decoder.embed_tokens.weight")))
        slots.prefill(checkpoint, rules, dtype).save(version / "prefill.onnx")
        slots.step(checkpoint, rules, dtype).save(version / "step.onnx")
        slots.place(checkpoint, dtype).save(version / "place.onnx")
        slots.move(checkpoint, dtype).save(version / "move.onnx")
    else:
        whisper.save(whisper.decoder(checkpoint, dtype), version / "decoder.onnx", precision)
    (version / "tokenizer.json").write_text(checkpoint.tokenizer_json, "utf-8")
    if (calibration := checkpoint.folder / confidence.FILE).exists():
        shutil.copyfile(calibration, version / confidence.FILE)
    (version / "generation_config.json").write_text(json.dumps(checkpoint.generation))
    source_folder = Path(__file__).parent / "engine"
    shutil.copyfile(source_folder / "triton_model.py", version / "model.py")
    (version / "whisper_engine").mkdir()
    for file in ENGINE_FILES:
        shutil.copyfile(source_folder / file, version / "whisper_engine" / file)
    origin = origin or checkpoint.source
    described: dict[str, str | int] = {  # what a front end wants to know before it decodes
        "source": origin,
        "precision": precision,
        "multilingual": "true" if checkpoint.multilingual else "false",
        "languages": ",".join(tokens.languages),
        "tasks": ",".join(tokens.tasks),
        "windows_s": ",".join(f"{s:g}" for s in windows),
    }
    parameters: dict[str, str | int] = (
        described
        | {
            "encoder": encoder,
            "padding_s": f"{padding_s:g}",
            "temperatures": ",".join(map(str, policy.get("temperatures", TEMPERATURES))),
            "beam_size": beam_size,
            "context": "true" if policy.get("context", True) else "false",
            "decode_threads": 1,
        }
        | tuning.parameters()
    )
    config = triton_config.whisper(engine, parameters, idle_s=idle, instances=tuning.instances)
    (parts[engine] / "config.pbtxt").write_text(config)

    for target, part in parts.items():
        shutil.rmtree(repository / target, ignore_errors=True)
        part.rename(repository / target)
    facts = {
        "precision": precision,
        "tuning": asdict(tuning),
        "windows_s": windows,
        "beam_size": beam_size,
        "multilingual": checkpoint.multilingual,
        "languages": tokens.languages,
        "tasks": tokens.tasks,
        "kind": "whisper",
        "path": str(checkpoint.folder.resolve()),
        "exporter": exporter_version(),
    }
    manifest.record(repository, name, origin, checkpoint.hashes(), [repository / n for n in parts], **facts)
    progress(f"{name}: ready in {repository}")
    return name


def retune(repository: Path, name: str, tuning: Tuning) -> None:
    """Another tuning for a model that was exported for slots. Raises `ValueError` where graphs would have to change."""
    config = repository / f"whisper_{name}" / "config.pbtxt"
    entry = manifest.read(repository)["models"][name]
    if not (Tuning(**entry["tuning"]).in_slots and tuning.in_slots):
        raise ValueError(f"{name} or its tuning is for another kind of device; export it again")
    text = re.sub(r"count: \d+", f"count: {tuning.instances}", config.read_text("utf-8"))
    for key, value in ({"beam_size": entry["beam_size"]} | tuning.parameters()).items():
        text = re.sub(rf'(key: "{key}" value: {{ string_value: )"[^"]*"', rf'\1"{value}"', text)
    config.write_text(text, "utf-8")
    manifest.amend(repository, name, [str(config.relative_to(repository))], tuning=asdict(tuning))


def export_silero(repository: Path, *, idle_s: int | None = None, instances: int = 1, progress: Progress = _quiet) -> str:
    """Exports Silero VAD from the installed `faster-whisper` as `silero_vad`."""
    source = silero.asset()
    folder = repository / "silero_vad"
    progress("silero_vad")
    silero.graph(source).save(folder / "1" / "model.onnx")
    config = triton_config.silero_vad(idle_s=idle_s or triton_config.ENGINE_IDLE_S, instances=instances)
    (folder / "config.pbtxt").write_text(config)
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
