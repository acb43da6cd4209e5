"""A Whisper checkpoint in Hugging Face's format, from a folder or the hub: config, tokenizer files, weights.

Whatever differs between checkpoints is read from their own files; where one is missing, Whisper's own rule fills in.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from export import tokenizer
from export.engine import confidence
from export.engine.scores import WIDEST
from export.weights import CheckpointError, Weights, something_else, weight_files

__all__ = ["POLICY", "Checkpoint", "CheckpointError", "download", "open_checkpoint"]

log = logging.getLogger(__name__)

POLICY = "voiceforge.json"
"""What a checkpoint says of itself: `windows_s`, `padding_s`, `beam_size`, `temperatures`, `context`. See docs/models.md."""

HUB_PATTERNS = ["*.json", "merges.txt", "model.safetensors", "model-*.safetensors"]
"""Not `model*`: large checkpoints have a second set of weights beside the first (`model.fp32-…`)."""
HUB_PICKLES = ["pytorch_model.bin", "pytorch_model-*.bin"]
FRAMES_PER_SECOND = 50
_ENGLISH_END_OF_TEXT = 50_256


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
        """`generation_config.json`; checkpoints older than that file have its lists in `config.json`."""
        path = self.folder / "generation_config.json"
        if path.exists():
            return json.loads(path.read_text("utf-8"))
        return {k: self.config[k] for k in ("suppress_tokens", "begin_suppress_tokens") if k in self.config}

    @cached_property
    def policy(self) -> dict[str, Any]:
        """What the checkpoint declares in `voiceforge.json`; empty for one that was neither made nor measured by us."""
        path = self.folder / POLICY
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    @cached_property
    def beam_size(self) -> int:
        """Texts that it asks to be followed at once; 1, greedy, where it says nothing.

        Raises `CheckpointError` for what is no such number.
        """
        found = self.policy.get("beam_size", 1)
        if type(found) is not int or not 1 <= found <= WIDEST:
            raise CheckpointError(f"{self.source}: beam_size {found!r} in {POLICY} is no whole number from 1 to {WIDEST}")
        return found

    @cached_property
    def padding_s(self) -> float:
        """Silence that it wants behind the speech in its window, in seconds; none where it says nothing.

        Raises `CheckpointError` for what is no such time.
        """
        found = self.policy.get("padding_s", 0)
        if type(found) not in (int, float) or not 0 <= found <= self.window_s:
            raise CheckpointError(f"{self.source}: padding_s {found!r} in {POLICY} is no time from 0 to {self.window_s:g} s")
        return float(found)

    @cached_property
    def tokenizer_json(self) -> str:
        try:
            return tokenizer.tokenizer_json(self.folder)
        except ValueError as error:
            raise CheckpointError(f"{self.source}: {error}") from None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self.tokenizer_json)

    @property
    def layers(self) -> tuple[int, int]:
        return self.config["encoder_layers"], self.config["decoder_layers"]

    @property
    def alignment_heads(self) -> list[tuple[int, int]]:
        """(layer, head) pairs whose cross-attention follows time; without a list, every head of the upper half.

        Distilled checkpoints have been published with the list of their teacher: heads that are not there do not count.
        """
        n_layers, n_heads = self.config["decoder_layers"], self.config["decoder_attention_heads"]
        listed = [(int(a), int(b)) for a, b in self.generation.get("alignment_heads") or []]
        found = [(a, b) for a, b in listed if a < n_layers and b < n_heads]
        if len(found) < len(listed):
            log.warning("%s: %d of its alignment heads do not exist", self.source, len(listed) - len(found))
        return found or [(layer, head) for layer in range(n_layers // 2, n_layers) for head in range(n_heads)]

    @property
    def window_s(self) -> int:
        """The audio that the encoder was made for: 30 s for all official ones."""
        return self.config.get("max_source_positions", 1500) // FRAMES_PER_SECOND

    @property
    def multilingual(self) -> bool:
        """True when the prompt names a language; `.en` models and `nano` take none.

        Undeclared, it is told by the tokenizer: more than one language, and not the numbering of the `.en` models, whose
        tokenizers list all languages too. (Not by the size of the vocabulary, which may be padded.)
        """
        declared = self.generation.get("is_multilingual")
        if declared is not None:
            return bool(declared)
        named = ("endoftext", "startoftranscript", "translate")
        ends, begins, after = (self.tokenizer.token_to_id(f"<|{name}|>") for name in named)
        return ends != _ENGLISH_END_OF_TEXT and begins is not None and after is not None and after - begins > 2

    @property
    def tied(self) -> bool:
        """Whether the embedding is the output's matrix too."""
        return bool(self.config.get("tie_word_embeddings", True))

    @cached_property
    def _weights(self) -> Weights:
        return Weights(weight_files(self.folder))

    def _key(self, name: str) -> str:
        """The `model.` prefix is optional, as it is in the wild."""
        return f"model.{name}" if f"model.{name}" in self._weights else name

    def has(self, name: str) -> bool:
        return self._key(name) in self._weights

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """One weight as float32."""
        if not self.has(name):
            raise CheckpointError(f"{self.source}: the weight {name!r} is missing; is this a Whisper checkpoint?")
        return self._weights[self._key(name)]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file the export reads."""
        out: dict[str, str] = {}
        declared = [self.folder / n for n in ("config.json", "generation_config.json", POLICY, confidence.FILE)]
        for path in [*self._weights.files, *tokenizer.files(self.folder), *declared]:
            if path.exists():
                with path.open("rb") as file:
                    out[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return out


def download(repo: str, **options: Any) -> Path:
    """The folder of a hub repo, downloaded once; torch's weights only where there are no safetensors.

    `options` go to `huggingface_hub.snapshot_download`, whose errors come through.
    """
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repo, allow_patterns=HUB_PATTERNS, **options))
    if not any(folder.glob("model*.safetensors")) and not (folder / "adapter_config.json").exists():
        folder = Path(snapshot_download(repo, allow_patterns=HUB_PATTERNS + HUB_PICKLES, **options))
    return folder


def open_checkpoint(source: str) -> Checkpoint:
    """Opens a local folder, or a hub repo (`openai/whisper-base.en`), downloading it once.

    Raises `CheckpointError` when files are missing or the model is no Whisper; download errors come through from
    `huggingface_hub`.
    """
    folder = Path(source).expanduser()
    name = folder.resolve().name
    if not folder.is_dir():
        folder, name = download(source), source
    missing = [] if (folder / "config.json").exists() else ["config.json"]
    missing += [] if tokenizer.files(folder) else [tokenizer.FILE]
    if missing:
        advice = something_else(folder) or (
            f"{', '.join(missing)} missing; a Hugging Face Whisper checkpoint has config.json, tokenizer.json and "
            "model.safetensors (a fine-tune saved without its tokenizer takes its base model's: copy it there)"
        )
        raise CheckpointError(f"{source}: {advice}")
    checkpoint = Checkpoint(folder, name)
    kind = checkpoint.config.get("model_type")
    if kind != "whisper":
        advice = None if kind else something_else(folder)
        raise CheckpointError(f"{source}: " + (advice or f"config.json says model_type {kind!r}, not 'whisper'"))
    return checkpoint
