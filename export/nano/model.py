"""Whisper's architecture in torch, with the tensor names of a Hugging Face checkpoint, and the heads training needs.

Two auxiliary heads hang on the encoder (phones per frame, CTC over characters); `checkpoint_tensors` leaves them out.
Initialisation and the encoder's limited attention span at the start are what makes training from scratch get off its
plateau on little data (see docs/models.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Dims:
    vocab_size: int
    d_model: int = 256
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 2
    n_mels: int = 80
    max_source_positions: int = 1500
    max_target_positions: int = 448

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Dims:
        """Those of a saved state."""
        vocab_size, d_model = state["decoder.embed_tokens.weight"].shape
        return cls(vocab_size, d_model, encoder_layers=depth(state, "encoder"), decoder_layers=depth(state, "decoder"))


def depth(state: Mapping[str, Tensor], part: str) -> int:
    """How many layers the "encoder" or the "decoder" of a saved state has."""
    return 1 + max(int(name.split(".")[2]) for name in state if name.startswith(f"{part}.layers."))


def deepened(state: Mapping[str, Tensor], layers: int, part: str = "encoder") -> dict[str, Tensor]:
    """The same function with more layers in the "encoder" or the "decoder": copies spread over the depth, whose outputs
    begin at zero.

    Stacking of a trained shallow network is far cheaper than a deep one from the start (Net2Net, arXiv 1511.05641).
    """
    old = depth(state, part)
    extra = layers - old
    copied = [round((i + 1) * old / extra) - 1 for i in range(extra)]
    out = {name: value for name, value in state.items() if not name.startswith(f"{part}.layers.")}
    at = 0
    for i in range(old):
        for fresh in [False] + [True] * copied.count(i):
            prefix = f"{part}.layers.{i}."
            for name in [n for n in state if n.startswith(prefix)]:
                inner = name.removeprefix(prefix)
                silent = fresh and inner.startswith(("self_attn.out_proj", "encoder_attn.out_proj", "fc2"))
                out[f"{part}.layers.{at}.{inner}"] = torch.zeros_like(state[name]) if silent else state[name].clone()
            at += 1
    return out


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's encoder positions, (length, channels)."""
    scales = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angle = torch.arange(length)[:, None] * scales[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Attention(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d, d)
        self.k_proj = nn.Linear(d, d, bias=False)
        self.v_proj = nn.Linear(d, d)
        self.out_proj = nn.Linear(d, d)

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Written out on a CPU: torch's fused attention is two products in bf16 slower there, a fifth of a step."""
        if q.device.type != "cpu":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        with torch.autocast("cpu", enabled=False):  # the softmax too stays in the type of the products
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            if causal:
                ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
                scores = scores.masked_fill(ahead, float("-inf"))
            if mask is not None:
                scores = scores + mask.to(scores.dtype)
            return scores.softmax(-1) @ v

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None, causal: bool = False, p: float = 0.0) -> Tensor:
        q, k, v = self._split(self.q_proj(x)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        out = self._attend(q, k, v, mask, causal)
        return F.dropout(self.out_proj(out.transpose(1, 2).flatten(2)), p, self.training)


class Layer(nn.Module):
    def __init__(self, d: int, heads: int, cross: bool, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_attn = Attention(d, heads)
        self.self_attn_layer_norm = nn.LayerNorm(d)
        if cross:
            self.encoder_attn = Attention(d, heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(d)
        self.fc1 = nn.Linear(d, 4 * d)
        self.fc2 = nn.Linear(4 * d, d)
        self.final_layer_norm = nn.LayerNorm(d)

    def forward(self, x: Tensor, source: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        y = self.self_attn_layer_norm(x)
        x = x + self.self_attn(y, y, mask, causal=source is not None, p=self.dropout)
        if source is not None:
            x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), source, p=self.dropout)
        y = self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + F.dropout(y, self.dropout, self.training)


class Encoder(nn.Module):
    def __init__(self, dims: Dims, dropout: float) -> None:
        super().__init__()
        d = dims.d_model
        self.conv1 = nn.Conv1d(dims.n_mels, d, 3, padding=1)
        self.conv2 = nn.Conv1d(d, d, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(dims.max_source_positions, d)
        self.layers = nn.ModuleList(Layer(d, dims.heads, False, dropout) for _ in range(dims.encoder_layers))
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, mel: Tensor, span: int | None = None) -> Tensor:
        """Log-mel (batch, n_mels, frames) to hidden states (batch, frames / 2, d); `span` limits attention to ± frames."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        n = x.shape[1]
        x = x + self.embed_positions.weight[:n]
        mask = None
        if span is not None and span < n:
            i = torch.arange(n, device=x.device)
            mask = torch.zeros(n, n, device=x.device, dtype=x.dtype)
            mask.masked_fill_((i[:, None] - i[None, :]).abs() > span, float("-inf"))
        for layer in self.layers:
            x = layer(x, mask=mask)
        return self.layer_norm(x)


class Decoder(nn.Module):
    def __init__(self, dims: Dims, dropout: float) -> None:
        super().__init__()
        d = dims.d_model
        self.embed_tokens = nn.Embedding(dims.vocab_size, d)
        self.embed_positions = nn.Embedding(dims.max_target_positions, d)
        self.layers = nn.ModuleList(Layer(d, dims.heads, True, dropout) for _ in range(dims.decoder_layers))
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        """Token ids (batch, n) and hidden states to logits (batch, n, vocab)."""
        x = self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, source)
        return self.layer_norm(x) @ self.embed_tokens.weight.T


class Whisper(nn.Module):
    def __init__(self, dims: Dims, n_phones: int = 0, n_chars: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        self.dims = dims
        self.encoder = Encoder(dims, dropout)
        self.decoder = Decoder(dims, dropout)
        self.phone_head = nn.Linear(dims.d_model, n_phones) if n_phones else None
        self.char_head = nn.Linear(dims.d_model, n_chars) if n_chars else None
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            bias = getattr(module, "bias", None)
            if isinstance(module, nn.Linear | nn.Conv1d) and bias is not None:
                nn.init.zeros_(bias)
        nn.init.normal_(self.decoder.embed_tokens.weight, std=self.dims.d_model**-0.5)
        nn.init.normal_(self.decoder.embed_positions.weight, std=0.02)
        with torch.no_grad():
            positions = self.encoder.embed_positions.weight
            positions.copy_(sinusoids(*positions.shape))
            positions.requires_grad_(False)
            for layer in self.encoder.layers:  # frames attend to their like at first
                attention = cast("Layer", layer).self_attn
                attention.k_proj.weight.copy_(attention.q_proj.weight)

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The tensors of a Hugging Face Whisper checkpoint, auxiliary heads left out (`proj_out` is tied)."""
        state = self.state_dict()
        return {f"model.{k}": v for k, v in state.items() if not k.startswith(("phone_head", "char_head"))}
