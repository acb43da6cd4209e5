"""The decoder for devices: caches in slots that are written in place, and the choice of a token where the logits are.

On a GPU what counts is what stays there. A step of 64 rows of a real Whisper has 13 MB of logits; of these graphs 7 KB
leave. Shapes that do not change from step to step can be captured as a CUDA graph.

- prefill: the first pass over prompt and committed tokens, cross-attention's keys and values of the whole window given.
- place: puts what a first pass left into slots.
- move: the caches of slots into other slots, for a beam whose texts grow out of others.
- step: one token a slot.

Where an output is named as the input with `next_` before it, the caller binds both to one buffer (`export/engine/slots.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.checkpoint import Checkpoint
from export.engine.scores import Podium
from export.graph import FLOAT, INT64, Graph
from export.whisper import Decoder

MASKED = -1e4
CONTROL = ("token", "position", "rule", "asked", "slot", "frames")
"""Columns of a step's `control`."""
Rules = npt.NDArray[np.float32]


def _numbers(g: Graph, logits: str, rules: Rules, rule: str, asked: str) -> tuple[str, str]:
    """`numbers` as `Podium` reads them, float32 (B, m, 2 N + 2), and all log-probabilities (B, m, vocab).

    `logits` float32 (B, m, vocab); `rule` and `asked` int64 (B, m).
    """
    allowed = g.op("Add", logits, g.op("Gather", g.const(rules, np.float32), rule))
    scores = g.op("LogSoftmax", allowed, axis=-1)
    best, tokens = g.op("TopK", scores, g.const([Podium.N]), outputs=2, axis=-1)
    entropy = g.op("ReduceSum", g.op("Mul", g.op("Exp", scores), scores), g.const([-1]), keepdims=1)
    target = g.op("GatherElements", scores, g.op("Unsqueeze", asked, g.const([2])), axis=2)
    numbers = g.op("Concat", best, g.op("Cast", tokens, to=FLOAT), g.op("Neg", entropy), target, axis=2)
    return numbers, scores


def _floats(g: Graph, x: str) -> str:
    return x if g.dtype == np.float32 else g.op("Cast", x, to=FLOAT)


def prefill(checkpoint: Checkpoint, rules: Rules, dtype: str = "float32") -> Graph:
    """n tokens of B rows from nothing, looked at in m places of each.

    Inputs: `tokens` (B, n), `positions` (1, n), `places` (B, m) which of the B·n tokens, `rule` and `asked` (B, m), all
    int64; `self_mask` (1, 1, n, n); per layer `cross_k_i` (B, H, Dh, T), `cross_v_i` (B, H, T, Dh).
    Outputs: `numbers` float32 (B, m, 2 N + 2); `scores` float32 (B, m, vocab); `attention` (B, m, A, T); per layer
    `present_k_i`, `present_v_i` (B, H, n, Dh).
    """
    d = Decoder(Graph("whisper_prefill", dtype), checkpoint)
    g = d.g
    tokens, positions = g.input("tokens", ["batch", "n"], INT64), g.input("positions", [1, "n"], INT64)
    places, rule, asked = (g.input(name, ["batch", "m"], INT64) for name in ("places", "rule", "asked"))
    mask = g.input("self_mask", [1, 1, "n", "n"])
    x = d.embedded(tokens, positions)

    def kept(i: int, keys: str, values: str) -> tuple[str, str]:
        for kv, value in (("k", keys), ("v", values)):
            g.output(value, f"present_{kv}_{i}", ["batch", d.heads, "n", d.width])
        return keys, values

    for i in range(d.n_layers):
        x = d.self_attention(i, x, kept, mask)
        x = d.cross_attention(i, x, *d.cross_inputs(i), None)
    looked_at = g.op("Gather", g.reshape(x, [-1, d.d_model]), places)
    rows = g.reshape(d.layers.norm(looked_at, "decoder.layer_norm"), [-1, d.d_model])
    shape = g.op("Concat", g.op("Shape", places), g.const([-1]), axis=0)
    logits = g.op("Reshape", _floats(g, d.projected(rows)), shape)
    numbers, scores = _numbers(g, logits, rules, rule, asked)
    by_token = g.op("Transpose", d.attention(), perm=[0, 2, 1, 3])
    merged = g.op("Concat", g.const([-1, d.n_aligned]), _last_dimension(g, by_token), axis=0)
    attention = g.op("Gather", g.op("Reshape", by_token, merged), places)
    g.output(numbers, "numbers", ["batch", "m", 2 * Podium.N + 2], FLOAT)
    g.output(scores, "scores", ["batch", "m", d.vocabulary], FLOAT)
    g.output(attention, "attention", ["batch", "m", d.n_aligned, "frames"])
    return g


def _last_dimension(g: Graph, x: str) -> str:
    return g.op("Slice", g.op("Shape", x), g.const([3]), g.const([4]))


def step(checkpoint: Checkpoint, rules: Rules, dtype: str = "float32") -> Graph:
    """The next token of each of R slots; no shape depends on how far they are.

    Inputs: `control` int64 (R, 6), see `CONTROL`; `cached` and `heard`, the numbers 0 to L - 1 and to T - 1 as int64
    (1, 1, 1, L) and (1, 1, 1, T); per layer `past_k_i`, `past_v_i` (R, H, L, Dh), `cross_k_i` (R, H, Dh, T), `cross_v_i`
    (R, H, T, Dh).
    Outputs: `numbers` float32 (R, 1, 2 N + 2); `scores` float32 (R, 1, vocab); `attention` (R, A, 1, T); per layer
    `next_past_k_i`, `next_past_v_i`: the inputs, with the new token's at its position.
    """
    d = Decoder(Graph("whisper_step", dtype), checkpoint)
    g = d.g
    control = g.input("control", ["rows", len(CONTROL)], INT64)
    token, position, rule, asked, slot, frames = (g.op("Gather", control, g.const([c]), axis=1) for c in range(len(CONTROL)))
    cached, heard = g.input("cached", [1, 1, 1, "cache"], INT64), g.input("heard", [1, 1, 1, "frames"], INT64)

    def cell(column: str) -> str:
        return g.reshape(column, [-1, 1, 1, 1])

    def mask(visible: str) -> str:
        return g.op("Where", visible, g.const(np.zeros(1), g.dtype), g.const(np.full(1, MASKED), g.dtype))

    self_mask = mask(g.op("LessOrEqual", cached, cell(position)))
    cross_mask = mask(g.op("Less", heard, cell(frames)))
    # one (slot, head, position) for each vector that is written
    zeros = g.const(np.zeros((1, d.heads, 1)))
    heads = g.const(np.arange(d.heads).reshape(1, -1, 1))
    column = [g.op("Add", g.reshape(c, [-1, 1, 1]), zeros) for c in (slot, position)]
    head = g.op("Add", g.op("Mul", column[0], zeros), heads)
    written = g.op("Concat", column[0], head, column[1], axis=2)
    x = d.embedded(token, position)

    def put(i: int, keys: str, values: str) -> tuple[str, str]:
        names: list[str] = []
        for kv, value in (("k", keys), ("v", values)):
            past, next_name = f"past_{kv}_{i}", f"next_past_{kv}_{i}"
            shape = ["rows", d.heads, "cache", d.width]
            new = g.op("Squeeze", value, g.const([2]))
            names.append(g.op("ScatterND", g.input(past, shape), written, new, named=next_name))
            g.output(next_name, next_name, shape)
        return names[0], names[1]

    for i in range(d.n_layers):
        x = d.self_attention(i, x, put, self_mask)
        x = d.cross_attention(i, x, *d.cross_inputs(i), cross_mask)
    x = d.layers.norm(x, "decoder.layer_norm")
    logits = g.reshape(_floats(g, d.projected(g.reshape(x, [-1, d.d_model]))), [-1, 1, d.vocabulary])
    numbers, scores = _numbers(g, logits, rules, rule, asked)
    g.output(numbers, "numbers", ["rows", 1, 2 * Podium.N + 2], FLOAT)
    g.output(scores, "scores", ["rows", 1, d.vocabulary], FLOAT)
    g.output(d.attention(), "attention", ["rows", d.n_aligned, 1, "frames"])
    return g


def place(checkpoint: Checkpoint, dtype: str = "float32") -> Graph:
    """B rows of keys and values into slots of R, filled up with zeros.

    Inputs: `slots` int64 (B, 1); `past_pads`, `cross_k_pads`, `cross_v_pads` int64 (8,), as `Pad` has them; for each cache
    its buffer, named as in `step`, and `new_` before the name what goes into it.
    """
    config = checkpoint.config
    heads = config["decoder_attention_heads"]
    width = config["d_model"] // heads
    g = Graph("whisper_place", dtype)
    slots = g.input("slots", ["batch", 1], INT64)
    cache: list[str | int] = ["cache", width]
    shapes = {"past_k": cache, "past_v": cache, "cross_k": [width, "frames"], "cross_v": ["frames", width]}
    pads = {kind: g.input(f"{kind}_pads", [8], INT64) for kind in ("past", "cross_k", "cross_v")}
    for i in range(checkpoint.layers[1]):
        for kind, inner in shapes.items():
            name = f"{kind}_{i}"
            short = [f"new_{s}" if isinstance(s, str) else s for s in inner]
            padded = g.op("Pad", g.input(f"new_{name}", ["batch", heads, *short]), pads.get(kind, pads["past"]))
            buffer = g.input(name, ["rows", heads, *inner])
            g.op("ScatterND", buffer, slots, padded, named=f"next_{name}")
            g.output(f"next_{name}", f"next_{name}", ["rows", heads, *inner])
    return g


def move(checkpoint: Checkpoint, dtype: str = "float32") -> Graph:
    """Keys and values of what was said, of n slots of R, into n others.

    Inputs: `sources` int64 (n,), `slots` int64 (n, 1); the buffers `past_k_i`, `past_v_i` as in `step`.
    """
    heads = checkpoint.config["decoder_attention_heads"]
    shape = ["rows", heads, "cache", checkpoint.config["d_model"] // heads]
    g = Graph("whisper_move", dtype)
    sources, slots = g.input("sources", ["n"], INT64), g.input("slots", ["n", 1], INT64)
    for name in (f"past_{kv}_{i}" for i in range(checkpoint.layers[1]) for kv in "kv"):
        buffer = g.input(name, shape)
        g.op("ScatterND", buffer, slots, g.op("Gather", buffer, sources), named=f"next_{name}")
        g.output(f"next_{name}", f"next_{name}", shape)
    return g
