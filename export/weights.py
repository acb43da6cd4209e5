"""The weights of a checkpoint folder by name: safetensors or torch's zip, whole or in shards."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from export import pickled

Float = npt.NDArray[np.float32]

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"

_NOT_READ = (
    ("adapter_config.json", "it is an adapter (LoRA) without the weights it adapts; merge them first, with peft: "
     "PeftModel.from_pretrained(WhisperForConditionalGeneration.from_pretrained({base!r}), FOLDER).merge_and_unload()"
     ".save_pretrained(OUT), then export OUT"),
    ("model.bin", "it is a CTranslate2 (faster-whisper) model; export the Hugging Face checkpoint that it was made from"),
    ("flax_model.msgpack", "its weights are Flax's; convert them with transformers 4 and flax: "
     "WhisperForConditionalGeneration.from_pretrained(FOLDER, from_flax=True).save_pretrained(OUT)"),
    ("tf_model.h5", "its weights are TensorFlow's; convert them with transformers 4 and tensorflow: "
     "WhisperForConditionalGeneration.from_pretrained(FOLDER, from_tf=True).save_pretrained(OUT)"),
    ("*.pt", "it is openai/whisper's own format; export the same model from the hub (openai/whisper-…), or convert it with "
     "transformers' convert_openai_to_hf.py"),
    ("ggml*.bin", "it is a whisper.cpp model; export the Hugging Face checkpoint that it was made from"),
)  # fmt: skip


class CheckpointError(Exception):
    """The folder is not a Whisper checkpoint that can be exported; the message says what is missing and what to do."""


def something_else(folder: Path) -> str | None:
    """What a folder without Whisper's own weights is, and what to do about it."""
    for pattern, advice in _NOT_READ:
        if found := next(iter(folder.glob(pattern)), None):
            base = json.loads(found.read_text("utf-8")).get("base_model_name_or_path") if found.suffix == ".json" else ""
            return advice.format(base=base)
    return None


def weight_files(folder: Path) -> list[Path]:
    """The file or shards that hold the weights. Raises `CheckpointError` when there are none, or not all."""
    for name in (SAFETENSORS, PICKLED):
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return [folder / name]
        if index.exists():
            shards = [folder / n for n in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]
            if absent := [p.name for p in shards if not p.exists()]:
                raise CheckpointError(f"{folder} lacks {', '.join(absent)}, which {index.name} names; fetch it again")
            return shards
    advice = something_else(folder) or f"there is neither {SAFETENSORS} nor {PICKLED}"
    raise CheckpointError(f"{folder} has no weights that can be read: {advice}")


class Weights:
    """Names and float32 arrays; nothing is read before it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        """Raises `CheckpointError` when a file is damaged."""
        self.files = files
        self._readers: dict[str, Callable[[], npt.NDArray[Any]]] = {}
        for path in files:
            self._readers |= _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)

    def __contains__(self, name: str) -> bool:
        return name in self._readers

    def __getitem__(self, name: str) -> Float:
        try:
            return self._readers[name]().astype(np.float32)
        except pickled.UnreadablePickle as error:
            raise CheckpointError(f"the weight {name!r} cannot be read: {error}") from None


def _pickled(path: Path) -> dict[str, Callable[[], npt.NDArray[Any]]]:
    try:
        return {name: partial(pickled.read, path, tensor) for name, tensor in pickled.index(path).items()}
    except pickled.UnreadablePickle as error:
        raise CheckpointError(
            f"{path.name} cannot be read safely: {error}; convert it with transformers and torch: "
            f"WhisperForConditionalGeneration.from_pretrained({str(path.parent)!r}).save_pretrained(OUT), then export OUT"
        ) from None


def _safetensors(path: Path) -> dict[str, Callable[[], npt.NDArray[Any]]]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: partial(_safetensor, path, name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is not a whole safetensors file ({error}); fetch it again") from None


def _safetensor(path: Path, name: str) -> npt.NDArray[Any]:
    with safe_open(path, framework="np") as file:
        if file.get_slice(name).get_dtype() != "BF16":
            return np.asarray(file.get_tensor(name))
    with path.open("rb") as raw:
        size = int.from_bytes(raw.read(8), "little")
        entry = json.loads(raw.read(size))[name]
        begin, end = entry["data_offsets"]
        raw.seek(8 + size + begin)
        return pickled.widened(np.frombuffer(raw.read(end - begin), np.uint16)).reshape(entry["shape"])
