"""Whisper as three ONNX graphs, built from a checkpoint's weights without torch.

- encoder: PCM in, hidden states out; the log-mel is part of the graph, so a client sends int16 and nothing else.
- cross: hidden states to the keys and values of the decoder's cross-attention, once a window.
- decoder: n tokens with a key/value cache to logits, the new cache, and the attention of the alignment heads.

Layouts follow `transformers`' modeling_whisper; parity is tested against it. As there, `scale_embedding` of the config has
no effect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from export.checkpoint import Checkpoint, CheckpointError
from export.graph import FLOAT, INT16, INT64, Graph
from export.mel import HOP, N_FFT, dft_matrices, mel_filters

PRECISIONS = ("fp32", "fp16", "int8")
POSITIONS = 448
"""Tokens of the decoder's context that the engine counts on: prompt, what was said before, text."""

# transformers' names; those that differ only in how they are computed are one.
_TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate")
ACTIVATIONS = ("gelu", "gelu_python", *_TANH_GELU, "quick_gelu", "relu", "silu", "swish")


def activation(g: Graph, x: str, name: str) -> str:
    """The feed-forward blocks' function, by `activation_function` of the config."""
    if name == "relu":
        return g.op("Relu", x)
    if name in ("silu", "swish"):
        return g.op("Mul", x, g.op("Sigmoid", x))
    if name == "quick_gelu":
        scaled = g.op("Mul", x, g.const(np.asarray(1.702), g.dtype))
        return g.op("Mul", x, g.op("Sigmoid", scaled))
    return g.op("Gelu", x, approximate="tanh" if name in _TANH_GELU else "none")


def _slice(g: Graph, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
    return g.op("Slice", x, g.const([start]), g.const([end]), g.const([axis]), g.const([step]))


def _log_mel(g: Graph, audio: str, n_mels: int) -> str:
    """int16 (B, N) to log-mel (B, N / 160, n_mels), computed in float32 whatever the graph's dtype."""
    x = g.op("Cast", audio, to=FLOAT)
    x = g.op("Mul", x, g.const(np.float32(1 / 32768), np.float32))
    x = g.op("Pad", x, g.const([0, N_FFT // 2, 0, N_FFT // 2]), mode="reflect")
    blocks = g.reshape(x, [0, -1, HOP // 2])  # a frame is five of them, the next one begins two later
    n = N_FFT // (HOP // 2)
    frames = g.op("Concat", *(_slice(g, blocks, 1, k, k - n, 2) for k in range(n)), axis=2)  # Whisper drops the last frame

    # cosines are even about the frame's middle and sines odd: half the products; the window is 0 at the frame's start
    middle = N_FFT // 2
    cosine, sine = dft_matrices()
    before, after = _slice(g, frames, 2, 1, middle), _slice(g, frames, 2, N_FFT - 1, middle, -1)
    even = g.op("Concat", g.op("Add", before, after), _slice(g, frames, 2, middle, middle + 1), axis=2)
    real = g.exact_matmul(even, cosine[:, 1 : middle + 1].T)
    imaginary = g.exact_matmul(g.op("Sub", before, after), sine[:, 1:middle].T)
    power = g.op("Add", *(g.op("Mul", part, part) for part in (real, imaginary)))
    mel = g.exact_matmul(power, mel_filters(n_mels).T)
    mel = g.op("Log", g.op("Max", mel, g.const(np.float32(1e-10), np.float32)))
    mel = g.op("Mul", mel, g.const(np.float32(1 / np.log(10)), np.float32))
    peak = g.op("ReduceMax", mel, g.const([1, 2]), keepdims=1)
    mel = g.op("Max", mel, g.op("Sub", peak, g.const(np.float32(8), np.float32)))
    mel = g.op("Mul", g.op("Add", mel, g.const(np.float32(4), np.float32)), g.const(np.float32(0.25), np.float32))
    return g.op("Cast", mel, to=g.float_type) if g.dtype != np.float32 else mel


class _Layers:
    """What encoder and decoder share: weights by name, heads, attention and feed-forward blocks."""

    def __init__(self, checkpoint: Checkpoint, g: Graph, heads: int) -> None:
        self.c, self.g, self.heads = checkpoint, g, heads
        self.width = checkpoint.config["d_model"] // heads
        self.activation = checkpoint.config.get("activation_function", "gelu")
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise CheckpointError(f"{checkpoint.source}: activation_function {self.activation!r} is not among {known}")

    def linear(self, x: str, name: str, scale: float = 1.0) -> str:
        bias = self.c.tensor(f"{name}.bias") * scale if self.c.has(f"{name}.bias") else None
        return self.g.linear(x, name, self.c.tensor(f"{name}.weight") * scale, bias)

    def norm(self, x: str, name: str) -> str:
        return self.g.layer_norm(x, name, self.c.tensor(f"{name}.weight"), self.c.tensor(f"{name}.bias"))

    def split(self, x: str, *, transposed: bool = False) -> str:
        """(B, n, d) to (B, H, n, Dh), or (B, H, Dh, n) for keys."""
        x = self.g.reshape(x, [0, 0, self.heads, self.width])
        return self.g.op("Transpose", x, perm=[0, 2, 3, 1] if transposed else [0, 2, 1, 3])

    def merge(self, x: str) -> str:
        return self.g.reshape(self.g.op("Transpose", x, perm=[0, 2, 1, 3]), [0, 0, self.heads * self.width])

    def queries(self, x: str, name: str) -> str:
        return self.split(self.linear(x, f"{name}.q_proj", self.width**-0.5))

    def feed_forward(self, x: str, name: str) -> str:
        y = self.norm(x, f"{name}.final_layer_norm")
        y = activation(self.g, self.linear(y, f"{name}.fc1"), self.activation)
        return self.g.op("Add", x, self.linear(y, f"{name}.fc2"))


def encoder(checkpoint: Checkpoint, dtype: str = "float32") -> Graph:
    """`audio` int16 (B, N), N a multiple of 320 up to the encoder's window, to `hidden_states` (B, N / 320, d_model)."""
    config = checkpoint.config
    g = Graph("whisper_encoder", dtype)
    layers = _Layers(checkpoint, g, config["encoder_attention_heads"])
    audio = g.input("audio", ["batch", "samples"], INT16)
    x = _log_mel(g, audio, config["num_mel_bins"])
    for name, stride in (("conv1", 1), ("conv2", 2)):
        weight, bias = (checkpoint.tensor(f"encoder.{name}.{part}") for part in ("weight", "bias"))
        x = g.op("Gelu", g.conv1d(x, name, weight, bias, stride))  # gelu, whatever the config says
    length = g.op("Slice", g.op("Shape", x), g.const([1]), g.const([2]))
    positions = g.weight("positions", checkpoint.tensor("encoder.embed_positions.weight"))
    x = g.op("Add", x, g.op("Slice", positions, g.const([0]), length, g.const([0])))
    for i in range(checkpoint.layers[0]):
        name = f"encoder.layers.{i}"
        y = layers.norm(x, f"{name}.self_attn_layer_norm")
        scores = g.op(
            "MatMul",
            layers.queries(y, f"{name}.self_attn"),
            layers.split(layers.linear(y, f"{name}.self_attn.k_proj"), transposed=True),
        )
        y = g.op("MatMul", g.op("Softmax", scores, axis=-1), layers.split(layers.linear(y, f"{name}.self_attn.v_proj")))
        x = g.op("Add", x, layers.linear(layers.merge(y), f"{name}.self_attn.out_proj"))
        x = layers.feed_forward(x, name)
    x = layers.norm(x, "encoder.layer_norm")
    if dtype != "float32":
        x = g.op("Cast", x, to=FLOAT)  # one type on the wire, whatever the precision
    g.output(x, "hidden_states", ["batch", "frames", config["d_model"]], FLOAT)
    return g


def cross(checkpoint: Checkpoint, dtype: str = "float32") -> Graph:
    """`hidden_states` float32 (B, T, d) to `cross_k_i` (B, H, Dh, T) and `cross_v_i` (B, H, T, Dh) of each layer i."""
    config = checkpoint.config
    heads = config["decoder_attention_heads"]
    g = Graph("whisper_cross", dtype)
    layers = _Layers(checkpoint, g, heads)
    x = g.input("hidden_states", ["batch", "frames", config["d_model"]], FLOAT)
    if dtype != "float32":
        x = g.op("Cast", x, to=g.float_type)
    for i in range(checkpoint.layers[1]):
        name = f"decoder.layers.{i}.encoder_attn"
        keys = layers.split(layers.linear(x, f"{name}.k_proj"), transposed=True)
        values = layers.split(layers.linear(x, f"{name}.v_proj"))
        g.output(keys, f"cross_k_{i}", ["batch", heads, layers.width, "frames"])
        g.output(values, f"cross_v_{i}", ["batch", heads, "frames", layers.width])
    return g


class Decoder:
    """The decoder's parts, for the graphs that arrange them: one that grows its cache, those that keep it in slots."""

    def __init__(self, g: Graph, checkpoint: Checkpoint) -> None:
        """Raises `CheckpointError` for a decoder whose context is too short for the engine."""
        config = checkpoint.config
        self.g, self._c = g, checkpoint
        self.d_model, self.heads = config["d_model"], config["decoder_attention_heads"]
        self.layers = _Layers(checkpoint, g, self.heads)
        self.width, self.n_layers = self.layers.width, checkpoint.layers[1]
        embedding, places = (checkpoint.tensor(f"decoder.embed_{n}.weight") for n in ("tokens", "positions"))
        if len(places) < POSITIONS:
            found = f"its decoder takes {len(places)} tokens"
            raise CheckpointError(f"{checkpoint.source}: {found}; the engine needs {POSITIONS}")
        self.vocabulary, self.n_aligned = len(embedding), len(checkpoint.alignment_heads)
        self._table, self._places = g.weight("embed_tokens", embedding), g.weight("embed_positions", places)
        self._aligned: list[str] = []

    def embedded(self, tokens: str, positions: str) -> str:
        return self.g.op("Add", self.g.op("Gather", self._table, tokens), self.g.op("Gather", self._places, positions))

    def self_attention(self, i: int, x: str, cached: Callable[[int, str, str], tuple[str, str]], mask: str) -> str:
        """`cached` puts a layer's new keys and values (B, H, n, Dh) to the old ones."""
        g, layers, name = self.g, self.layers, f"decoder.layers.{i}"
        y = layers.norm(x, f"{name}.self_attn_layer_norm")
        keys, values = (layers.split(layers.linear(y, f"{name}.self_attn.{kv}_proj")) for kv in "kv")
        keys, values = cached(i, keys, values)
        scores = g.op("MatMul", layers.queries(y, f"{name}.self_attn"), g.op("Transpose", keys, perm=[0, 1, 3, 2]))
        y = g.op("MatMul", g.op("Softmax", g.op("Add", scores, mask), axis=-1), values)
        return g.op("Add", x, layers.linear(layers.merge(y), f"{name}.self_attn.out_proj"))

    def cross_inputs(self, i: int, each: str = "batch") -> tuple[str, str]:
        keys = self.g.input(f"cross_k_{i}", [each, self.heads, self.width, "frames"])
        return keys, self.g.input(f"cross_v_{i}", [each, self.heads, "frames", self.width])

    def cross_attention(self, i: int, x: str, keys: str, values: str, mask: str | None, shared: bool = False) -> str:
        """And the layer's feed-forward block. `shared`: B / W rows in succession have a window in common, of W."""
        g, layers, name = self.g, self.layers, f"decoder.layers.{i}"
        y = layers.norm(x, f"{name}.encoder_attn_layer_norm")
        if shared:  # (B, n, d) to (W, B / W · n, d): they ask it together
            windows = g.op("Slice", g.op("Shape", keys), g.const([0]), g.const([1]))
            y = g.op("Reshape", y, g.op("Concat", windows, g.const([-1, self.d_model]), axis=0))
        scores = g.op("MatMul", layers.queries(y, f"{name}.encoder_attn"), keys)
        weights = g.op("Softmax", g.op("Add", scores, mask) if mask else scores, axis=-1)
        picked = [head for layer, head in self._c.alignment_heads if layer == i]
        if picked:
            whole = picked == list(range(self.heads))
            self._aligned.append(weights if whole else g.op("Gather", weights, g.const(picked), axis=1))
        y = layers.linear(layers.merge(g.op("MatMul", weights, values)), f"{name}.encoder_attn.out_proj")
        x = g.op("Add", x, g.op("Reshape", y, g.op("Shape", x)) if shared else y)
        return layers.feed_forward(x, name)

    def attention(self) -> str:
        """Of the alignment heads, (B, A, n, T)."""
        return self._aligned[0] if len(self._aligned) == 1 else self.g.op("Concat", *self._aligned, axis=1)

    def projected(self, x: str) -> str:
        """Logits of rows (m, d_model)."""
        c = self._c
        head = self._table if c.tied else self.g.weight("proj_out", c.tensor("proj_out.weight"))
        return self.g.op("Gemm", x, head, transB=1)


def decoder(checkpoint: Checkpoint, dtype: str = "float32") -> Graph:
    """n new tokens after S cached ones, of B rows over W windows: row b hears window b · W // B, so that the texts of a beam
    share theirs.

    Inputs: `tokens`, `positions` int64 (B, n); `self_mask` (B, 1, n, S + n) and `cross_mask` (W, 1, 1, T), added to the
    scores; per layer i `past_k_i`, `past_v_i` (B, H, S, Dh), `cross_k_i` (W, H, Dh, T), `cross_v_i` (W, H, T, Dh).
    Outputs: `logits` float32 (B, n, vocab); `attention` float32 (W, A, B / W · n, T), the A alignment heads; per layer
    `present_k_i`, `present_v_i` (B, H, S + n, Dh).
    """
    d = Decoder(Graph("whisper_decoder", dtype), checkpoint)
    g = d.g
    tokens, positions = (g.input(n, ["batch", "n"], INT64) for n in ("tokens", "positions"))
    self_mask = g.input("self_mask", ["batch", 1, "n", "total"])
    cross_mask = g.input("cross_mask", ["windows", 1, 1, "frames"])
    x = d.embedded(tokens, positions)
    presents: list[tuple[str, str]] = []

    def grown(i: int, keys: str, values: str) -> tuple[str, str]:
        past_k, past_v = (g.input(f"past_{kv}_{i}", ["batch", d.heads, "past", d.width]) for kv in "kv")
        presents.append((g.op("Concat", past_k, keys, axis=2), g.op("Concat", past_v, values, axis=2)))
        return presents[-1]

    for i in range(d.n_layers):
        x = d.self_attention(i, x, grown, self_mask)
        x = d.cross_attention(i, x, *d.cross_inputs(i, "windows"), cross_mask, shared=True)
    x = d.layers.norm(x, "decoder.layer_norm")
    logits = d.projected(g.reshape(x, [-1, d.d_model]))
    shape = g.op("Concat", g.op("Shape", tokens), g.const([-1]), axis=0)
    logits, attention = g.op("Reshape", logits, shape), d.attention()
    if dtype != "float32":
        logits, attention = (g.op("Cast", v, to=FLOAT) for v in (logits, attention))
    g.output(logits, "logits", ["batch", "n", d.vocabulary], FLOAT)
    g.output(attention, "attention", ["windows", d.n_aligned, "asked", "frames"], FLOAT)
    for i, (keys, values) in enumerate(presents):
        g.output(keys, f"present_k_{i}", ["batch", d.heads, "total", d.width])
        g.output(values, f"present_v_{i}", ["batch", d.heads, "total", d.width])
    return g


@contextmanager
def _quiet_root() -> Generator[None]:
    """Without what ONNX Runtime's quantiser tells the root logger about every tensor."""

    def by_name(record: logging.LogRecord) -> bool:
        return record.name != "root"

    root = logging.getLogger()
    root.addFilter(by_name)
    try:
        yield
    finally:
        root.removeFilter(by_name)


def save(graph: Graph, path: Path, precision: str) -> None:
    """Writes the graph; `int8` quantises the constant matrices (dynamic activations) and the embeddings, see ORT's
    quantisation guide."""
    if precision != "int8":
        graph.save(path)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    full = path.with_suffix(".fp32.onnx")
    graph.save(full)
    with _quiet_root():
        quantize_dynamic(
            str(full), str(path), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True, extra_options={"MatMulConstBOnly": True}, nodes_to_exclude=graph.exact,
            use_external_data_format=full.with_name(f"{full.name}.data").exists(),
        )  # fmt: skip
    for leftover in (full, full.with_name(f"{full.name}.data")):
        leftover.unlink(missing_ok=True)
