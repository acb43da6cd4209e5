"""A Whisper of an official size whose weights are made up, but which always says the same: so figures can be compared.

Random weights cost what trained ones cost, except that nobody knows how many tokens they will say: some end at once, some
turn in circles until a limit. Forbidding the end of text up to a length would need a switch in every engine that is
compared. Here the checkpoint itself settles it, and any engine that decodes it rightly does the same work:

- the position embedding of place p is `LOUD` times the embedding of the token that shall follow at p, and layers write to
  the residual stream quietly (`QUIET`), so the last layer norm sees that token's embedding and little else;
- the text is `n_tokens` different words of one token each, then the end of text at every later place. Different words are no
  loop and no doubtful text; each begins a word, so a settled prefix leaves it as it is;
- the probability of each is nearly 1, so no precision turns it over (tests decode it in fp32 and fp16, and with the peer).

What it cannot show: text that grows with the audio. Every decode of a window says the whole text, so the first two partials
of an utterance cost more than real ones, and the later ones, with the text settled, less.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from export.checkpoint import POLICY, open_checkpoint
from export.repository import NANO, vocabulary

Float = npt.NDArray[np.float32]
LOUD, QUIET = 4.0, 0.02
PROMPT = 2
"""Tokens before the text: start of transcript, no timestamps."""


@dataclass(frozen=True)
class Shape:
    """Of a checkpoint; `aligned` are the (layer, head) pairs whose attention gives word times."""

    d_model: int
    layers: tuple[int, int]
    heads: int
    vocabulary: int
    aligned: tuple[tuple[int, int], ...]


SHAPES = {
    "base": Shape(512, (6, 6), 8, 51_864, ((3, 3), (4, 7), (5, 1), (5, 5), (5, 7))),  # openai/whisper-base.en
    "toy": Shape(64, (1, 1), 2, 3046, ((0, 0), (0, 1))),  # for dry runs
}


def sentence(n_tokens: int, seed: int = 0) -> list[int]:
    """That many different words of nano's vocabulary, a token each."""
    words = vocabulary(open_checkpoint(str(NANO)))
    known = [t for t in range(words.size) if words.begins_word(t) and words.text([t]).strip().isalpha()]
    if n_tokens > len(known):
        raise ValueError(f"a text has at most {len(known)} different words")
    return [int(t) for t in np.random.default_rng(seed).permutation(known)[:n_tokens]]


def weights(shape: Shape, text: list[int], end: int, seed: int = 0) -> dict[str, Float]:
    """By `transformers`' names, float32."""
    r = np.random.default_rng(seed)
    d, out = shape.d_model, {}

    def random(*size: int, scale: float = 1.0) -> Float:
        return (scale * r.standard_normal(size, np.float32) / np.sqrt(np.prod(size[1:]))).astype(np.float32)

    def norm(name: str) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = np.ones(d, np.float32), np.zeros(d, np.float32)

    def linear(name: str, to: int, frm: int, *, bias: bool = True, scale: float = 1.0) -> None:
        out[f"{name}.weight"] = random(to, frm, scale=scale)
        if bias:
            out[f"{name}.bias"] = np.zeros(to, np.float32)

    def attention(name: str) -> None:
        for part in "qkv":
            linear(f"{name}.{part}_proj", d, d, bias=part != "k")
        linear(f"{name}.out_proj", d, d, scale=QUIET)
        norm(f"{name}_layer_norm")

    for side, n_layers in zip(("encoder", "decoder"), shape.layers, strict=True):
        for i in range(n_layers):
            layer = f"{side}.layers.{i}"
            attention(f"{layer}.self_attn")
            if side == "decoder":
                attention(f"{layer}.encoder_attn")
            linear(f"{layer}.fc1", 4 * d, d)
            linear(f"{layer}.fc2", d, 4 * d, scale=QUIET)
            norm(f"{layer}.final_layer_norm")
        norm(f"{side}.layer_norm")
    for name, channels in (("conv1", 80), ("conv2", d)):
        out[f"encoder.{name}.weight"], out[f"encoder.{name}.bias"] = random(d, channels, 3), np.zeros(d, np.float32)
    out["encoder.embed_positions.weight"] = random(1500, d)
    embedding = random(shape.vocabulary, d)
    out["decoder.embed_tokens.weight"] = embedding
    said = [*text[:1] * (PROMPT - 1), *text]
    following = np.array([*said, *[end] * (448 - len(said))])
    out["decoder.embed_positions.weight"] = LOUD * embedding[following]
    return {f"model.{name}": value for name, value in out.items()}


def write(folder: Path, shape: Shape, n_tokens: int) -> list[int]:
    """A checkpoint folder as Hugging Face has them, with nano's tokenizer; returns the tokens of its text."""
    folder.mkdir(parents=True, exist_ok=True)
    nano = open_checkpoint(str(NANO))
    text = sentence(n_tokens)
    safetensors.numpy.save_file(
        weights(shape, text, vocabulary(nano).eot), folder / "model.safetensors", metadata={"format": "pt"}
    )
    (encoders, decoders), d = shape.layers, shape.d_model
    config = nano.config | {
        "d_model": d, "encoder_layers": encoders, "decoder_layers": decoders, "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads, "encoder_ffn_dim": 4 * d, "decoder_ffn_dim": 4 * d,
        "vocab_size": shape.vocabulary, "torch_dtype": "float32",
    }  # fmt: skip
    generation = nano.generation | {"alignment_heads": [list(pair) for pair in shape.aligned]}
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        (POLICY, {"temperatures": [0.0], "context": False}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "special_tokens_map.json",
                 "added_tokens.json", "vocab.json", "merges.txt"):  # fmt: skip
        shutil.copyfile(NANO / name, folder / name)
    return text
