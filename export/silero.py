"""Silero VAD v6 re-shaped for many streams: a batch of streams × frames, the LSTM's state in and out.

The asset that `faster-whisper` ships takes the frames of one stream as its batch. Here `audio` is int16 (B, 512 k): k
frames of 32 ms for each of B streams. States: the LSTM's `h` and `c`, and the last 64 samples, which Silero puts in
front of the next frame. Triton pairs states by sorted name, so inputs and outputs are named alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export.graph import FLOAT, INT16, Graph

FRAME = 512
CONTEXT = 64
WIDTH = 128
STATES = {"c": WIDTH, "context": CONTEXT, "h": WIDTH}


def asset() -> Path:
    """The ONNX file inside the installed `faster-whisper`."""
    import faster_whisper

    found = sorted((Path(faster_whisper.__file__).parent / "assets").glob("silero_vad_v*.onnx"))
    if not found:
        raise FileNotFoundError("this faster-whisper has no assets/silero_vad_v*.onnx; install faster-whisper 1.2 or newer")
    return found[-1]


def graph(source: Path) -> Graph:
    """Inputs `audio` (B, 512 k), `state_c`, `state_context`, `state_h`; outputs `probabilities` (B, k) and `next_*`."""
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(source)).graph.initializer}
    lstm = {n.rsplit("_", 1)[1]: w for n, w in weights.items() if n.startswith("onnx::LSTM_")}
    lstm_w, lstm_r, lstm_b = (lstm[k] for k in sorted(lstm, key=int))
    g = Graph("silero_vad")
    audio = g.input("audio", ["batch", "samples"], INT16)
    c, context, h = (g.input(f"state_{name}", ["batch", size], FLOAT) for name, size in STATES.items())

    x = g.op("Mul", g.op("Cast", audio, to=FLOAT), g.const(np.float32(1 / 32768), np.float32))
    x = g.op("Concat", context, x, axis=1)
    shape = g.op("Shape", audio)
    batch = g.op("Slice", shape, g.const([0]), g.const([1]))
    n_frames = g.op("Div", g.op("Slice", shape, g.const([1]), g.const([2])), g.const([FRAME]))
    starts = g.op("Mul", g.op("Range", g.const(0), g.op("Squeeze", n_frames), g.const(1)), g.const(FRAME))
    basis = weights["encoder.feature_extractor.forward_basis_buffer"][:, 0]
    half, width = len(basis) // 2, basis.shape[1]
    padded = np.concatenate([np.arange(CONTEXT + FRAME), np.arange(CONTEXT + FRAME - 2, FRAME - 2, -1)])  # reflected
    windows = np.stack([padded[i : i + width] for i in range(0, len(padded) - width + 1, width // 2)])
    index = g.op("Add", g.op("Unsqueeze", starts, g.const([1, 2])), g.const(windows))
    frames = g.reshape(g.op("Gather", x, index, axis=1), [-1, *windows.shape])
    y = g.op("MatMul", frames, g.weight("basis", basis.T))
    parts = [g.op("Slice", y, g.const([a]), g.const([a + half]), g.const([2])) for a in (0, half)]
    y = g.op("Sqrt", g.op("Add", *(g.op("Mul", p, p) for p in parts)))
    for i, stride in enumerate((1, 2, 2, 1)):
        name = f"encoder.conv_layers.{i}"
        y = g.op("Relu", g.conv1d(y, name, weights[f"{name}.weight"], weights[f"{name}.bias"], stride))
    features = g.op("Reshape", y, g.op("Concat", batch, n_frames, g.const([WIDTH]), axis=0))
    sequence = g.op("Transpose", features, perm=[1, 0, 2])
    first = [g.op("Unsqueeze", s, g.const([0])) for s in (h, c)]
    names = [g.weight(n, w) for n, w in (("lstm.w", lstm_w), ("lstm.r", lstm_r), ("lstm.b", lstm_b))]
    out, next_h, next_c = g.op("LSTM", sequence, *names, "", *first, outputs=3, hidden_size=WIDTH)
    y = g.op("Relu", g.op("Transpose", g.op("Squeeze", out, g.const([1])), perm=[1, 2, 0]))
    kernel, bias = (g.weight(f"decoder.conv1d.{n}", weights[f"decoder.conv1d.{n}"]) for n in ("weight", "bias"))
    y = g.op("Sigmoid", g.op("Conv", y, kernel, bias))
    g.output(g.op("Squeeze", y, g.const([1])), "probabilities", ["batch", "frames"])
    g.output(g.op("Squeeze", next_c, g.const([0])), "next_c", ["batch", WIDTH])
    tail = g.op("Slice", x, g.const([-CONTEXT]), g.const([np.iinfo(np.int64).max]), g.const([1]))
    g.output(tail, "next_context", ["batch", CONTEXT])
    g.output(g.op("Squeeze", next_h, g.const([0])), "next_h", ["batch", WIDTH])
    return g
