"""Whisper checkpoints with random weights, saved by `transformers`, and the graphs exported from them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from export import whisper
from export.checkpoint import Checkpoint
from export.engine.growing import sessions
from export.repository import NANO
from tests.conftest import ROOT


def config(
    d_model: int, layers: tuple[int, int], heads: int, *, n_mels: int = 80, vocabulary: int = 51_865, **more: Any
) -> WhisperConfig:
    return WhisperConfig(
        d_model=d_model,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * d_model,
        decoder_ffn_dim=4 * d_model,
        num_mel_bins=n_mels,
        vocab_size=vocabulary,
        **more,
    )


def toy() -> WhisperConfig:
    """The smallest that is still a Whisper, with nano's vocabulary: exported in a blink."""
    special = {"pad_token_id": 1536, "bos_token_id": 1536, "eos_token_id": 1536, "decoder_start_token_id": 1537}
    return config(32, (1, 2), 2, vocabulary=3046, **special)


def random_whisper(shape: WhisperConfig, seed: int = 0) -> WhisperForConditionalGeneration:
    """Every parameter random, biases and norms too, and so that logits have a spread of about 1.

    With the library's own initialisation (biases 0, norms 1, weights 0.02) a forgotten bias would go unnoticed and the
    logits would be too small for an absolute tolerance to mean anything.
    """
    model = WhisperForConditionalGeneration._from_config(shape, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("encoder.embed_positions.weight"):
                continue
            if name.endswith("layer_norm.weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            elif "embed" in name:
                parameter.copy_(0.05 * noise)
            else:
                parameter.copy_(noise / float(np.prod(parameter.shape[1:])) ** 0.5)
    return model


def save(model: WhisperForConditionalGeneration, folder: Path, **options: Any) -> Path:
    """`save_pretrained`, with nano's tokenizer: the exporter wants one, the graphs do not care which."""
    model.save_pretrained(folder, **options)
    shutil.copy(NANO / "tokenizer.json", folder)
    return folder


def local_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass
class Cache:
    """Decoder state of a batch: cached keys and values by input name, and how many positions they hold."""

    past: dict[str, np.ndarray]
    length: int = 0


class Graphs:
    """The three exported graphs of a checkpoint, run one by one."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, precision: str = "fp32") -> None:
        dtype = "float16" if precision == "fp16" else "float32"
        for name, build in (("encoder", whisper.encoder), ("cross", whisper.cross), ("decoder", whisper.decoder)):
            whisper.save(build(checkpoint, dtype), folder / f"{name}.onnx", precision)
        self.dtype = np.dtype(dtype)
        self.layers = checkpoint.layers[1]
        self.heads = checkpoint.config["decoder_attention_heads"]
        self.width = checkpoint.config["d_model"] // self.heads
        self._encoder = local_session(folder / "encoder.onnx")
        loaded = sessions(folder, ["CPUExecutionProvider"], threads=1)
        self._cross, self._decoder = loaded["cross"], loaded["decoder"]
        self._kv = [f"{kv}_{i}" for i in range(self.layers) for kv in "kv"]

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """int16 (n,) to hidden states (T, d)."""
        return self._encoder.run(["hidden_states"], {"audio": audio[None]})[0][0]

    def cross(self, hidden: np.ndarray) -> dict[str, np.ndarray]:
        """Hidden states (B, T, d) to the decoder's `cross_*` inputs."""
        names = [f"cross_{n}" for n in self._kv]
        return dict(zip(names, self._cross.run(names, {"hidden_states": hidden}), strict=True))

    def empty(self, batch: int = 1) -> Cache:
        return Cache({f"past_{n}": np.zeros((batch, self.heads, 0, self.width), self.dtype) for n in self._kv})

    def decode(
        self,
        tokens: np.ndarray,
        cross: dict[str, np.ndarray],
        cache: Cache,
        *,
        positions: np.ndarray | None = None,
        self_mask: np.ndarray | None = None,
        cross_mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, Cache]:
        """Logits (B, n, vocab) and attention of n tokens (B, n) after those in the cache, and the grown cache."""
        batch, n = tokens.shape
        total = cache.length + n
        causal = np.triu(np.full((n, total), -1e4, self.dtype), cache.length + 1)
        feeds: dict[str, np.ndarray] = {
            "tokens": tokens.astype(np.int64),
            "positions": np.tile(np.arange(cache.length, total), (batch, 1)) if positions is None else positions,
            "self_mask": np.tile(causal, (batch, 1, 1, 1)) if self_mask is None else self_mask,
            "cross_mask": (
                np.zeros((batch, 1, 1, cross["cross_v_0"].shape[2]), self.dtype) if cross_mask is None else cross_mask
            ),
        }
        outputs = ["logits", "attention", *(f"present_{n}" for n in self._kv)]
        logits, attention, *present = self._decoder.run(outputs, feeds | cross | cache.past)
        return logits, attention, Cache({f"past_{n}": p for n, p in zip(self._kv, present, strict=True)}, total)


def thirty_seconds() -> np.ndarray:
    """A deterministic 30 s window, int16: bursts of coloured noise of different loudness, then digital silence."""
    r = np.random.default_rng(7)
    loudness = np.repeat(r.uniform(0, 6000, 40), 8_000)
    noise = np.convolve(r.normal(size=len(loudness)), np.hanning(9) / 4, mode="same")
    audio = np.zeros(480_000, np.int16)
    audio[: len(loudness)] = np.clip(noise * loudness, -32768, 32767)
    return audio


def killed_half_way(target: Path) -> None:
    """An export of nano that is killed while it writes the decoder."""
    command = [sys.executable, "-m", "export", "export", "nano", "--model-repository", str(target)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert any("decoder" in line for line in process.stderr)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it was killed too late to tell anything"
