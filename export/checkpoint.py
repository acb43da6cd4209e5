"""A Whisper checkpoint in Hugging Face's format, from a folder or the hub: config, tokenizer files, safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

NEEDED = ("config.json", "tokenizer.json", "generation_config.json")
HUB_PATTERNS = ["*.json", "merges.txt", "model*.safetensors", "model.safetensors.index.json"]


class CheckpointError(Exception):
    """The folder is not a Whisper checkpoint that can be exported; the message says what is missing."""


@dataclass(frozen=True)
class Checkpoint:
    """`folder` holds the files; `source` is what the user named (a repo or a path's last part)."""

    folder: Path
    source: str

    @cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text("utf-8"))

    @cached_property
    def generation(self) -> dict[str, Any]:
        path = self.folder / "generation_config.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    @property
    def layers(self) -> tuple[int, int]:
        return self.config["encoder_layers"], self.config["decoder_layers"]

    @property
    def alignment_heads(self) -> list[tuple[int, int]]:
        """(layer, head) pairs whose cross-attention follows time; without a list, every head of the upper half."""
        listed = self.generation.get("alignment_heads")
        if listed:
            return [(int(a), int(b)) for a, b in listed]
        n_layers, n_heads = self.config["decoder_layers"], self.config["decoder_attention_heads"]
        return [(layer, head) for layer in range(n_layers // 2, n_layers) for head in range(n_heads)]

    @cached_property
    def _files(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if (self.folder / "model.safetensors").exists():
            return [self.folder / "model.safetensors"]
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            return [self.folder / name for name in names]
        raise CheckpointError(f"{self.folder} has no model.safetensors; only safetensors checkpoints are read, not pickles")

    @cached_property
    def _where(self) -> dict[str, Path]:
        where: dict[str, Path] = {}
        for path in self._files:
            try:
                with safe_open(path, framework="np") as file:
                    where |= dict.fromkeys(file.keys(), path)
            except SafetensorError as error:
                raise CheckpointError(f"{path.name} is not a whole safetensors file ({error}); fetch it again") from None
        return where

    def has(self, name: str) -> bool:
        return name in self._where or f"model.{name}" in self._where

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """One weight as float32; the `model.` prefix is optional, as it is in the wild."""
        key = f"model.{name}" if f"model.{name}" in self._where else name
        if key not in self._where:
            raise CheckpointError(f"{self.source}: the weight {name!r} is missing; is this a Whisper checkpoint?")
        with safe_open(self._where[key], framework="np") as file:
            part = file.get_slice(key)
            if part.get_dtype() == "BF16":
                return _bf16(self._where[key], key)
            return np.asarray(file.get_tensor(key)).astype(np.float32)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file the export reads."""
        out: dict[str, str] = {}
        for path in [*self._files, *(self.folder / n for n in NEEDED)]:
            if path.exists():
                with path.open("rb") as file:
                    out[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return out


def _bf16(path: Path, name: str) -> npt.NDArray[np.float32]:
    """bfloat16 is unknown to numpy: its 16 bits are the upper half of a float32."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        raw = np.frombuffer(file.read(end - begin), np.uint16)
    return (raw.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def open_checkpoint(source: str, cache: Path | None = None) -> Checkpoint:
    """Opens a local folder, or a hub repo (`openai/whisper-base.en`), downloading it once.

    Raises `CheckpointError` when files are missing or the model is no Whisper; download errors come through from
    `huggingface_hub`.
    """
    folder = Path(source).expanduser()
    name = folder.resolve().name
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder, name = Path(snapshot_download(source, allow_patterns=HUB_PATTERNS, cache_dir=cache)), source
    missing = [n for n in NEEDED[:2] if not (folder / n).exists()]
    if missing:
        raise CheckpointError(
            f"{source}: {', '.join(missing)} missing; a Hugging Face Whisper checkpoint has config.json, tokenizer.json "
            "and model.safetensors"
        )
    checkpoint = Checkpoint(folder, name)
    if checkpoint.config.get("model_type") != "whisper":
        raise CheckpointError(
            f"{source}: config.json says model_type {checkpoint.config.get('model_type')!r}, not 'whisper'"
        )
    return checkpoint
