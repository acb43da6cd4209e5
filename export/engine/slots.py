"""The batch on a GPU: a slot for each row in buffers that never move, and nothing leaves the device but what a choice needs.

Windows are PCM: encoder and decoder run in this process, because hidden states of 3 MB a window would otherwise cross
processes and the bus twice. Slots are taken lowest first, and a step computes a prefix of them, in one of a few sizes
(`buckets`), so its shapes and addresses repeat: what a CUDA graph needs to be captured once and replayed. Works the same on
a CPU, where tests run it.

Graphs: see `export/slots.py`. `device` is onnxruntime's name, `cuda` or `cpu`.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import onnxruntime as ort

from .alignment import FRAME_SAMPLES
from .batch import Array, Ask, Float, Integers, Seat, Seen, Turn
from .scores import Podium, Ranking

CACHE = 448
"""Cached positions of a slot: all that Whisper has."""
KINDS = ("past_k", "past_v", "cross_k", "cross_v")
GRAPHS = ("cross", "prefill", "place", "move", "step")


class DeviceUnavailable(RuntimeError):
    """The asked-for device cannot be used; nothing falls back to another one."""


@dataclass(frozen=True)
class Place:
    """Where graphs run."""

    device: str = "cpu"
    index: int = 0
    threads: int = 1
    cuda_graphs: bool = False
    """Steps are replayed; CUDA only."""


def open_session(
    path: Path, place: Place, *, captured: bool = False, entries: Mapping[str, str] = MappingProxyType({})
) -> ort.InferenceSession:
    """A session on the place's device, with `entries` of its config.

    Raises `DeviceUnavailable` rather than run elsewhere, as onnxruntime would.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = place.threads, 1
    for key, value in {"session.intra_op.allow_spinning": "0", **entries}.items():
        options.add_session_config_entry(key, value)
    if place.device == "cpu":
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise DeviceUnavailable(
            f"onnxruntime {ort.__version__} here has no CUDA; install onnxruntime-gpu in place of onnxruntime"
        )
    ort.preload_dlls()
    # TF32 would leave a log-mel of 10 bits
    cuda = {"device_id": place.index, "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    if captured:
        cuda["enable_cuda_graph"] = "1"
    providers = [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
    session = ort.InferenceSession(str(path), options, providers=providers)
    if "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceUnavailable(
            "CUDA does not load: the driver is too old for this onnxruntime-gpu, or its CUDA or cuDNN libraries are missing "
            "(onnxruntime's own reason is on standard error)"
        )
    return session


@dataclass(eq=False)
class _Seat(Seat):
    row: int = 0
    values: Mapping[str, ort.OrtValue] | None = None
    """Of its first pass, in which it was this row; while it is not in the batch."""


class _Fetched:
    """A device's tensor that is copied here when somebody needs it."""

    def __init__(self, value: ort.OrtValue) -> None:
        self._value = value
        self._here: Array | None = None

    def at(self, *index: int) -> Float:
        if self._here is None:
            self._here = cast("Array", self._value.numpy())
        return self._here[index]


class _Step:
    """The step of the first so many slots, everything bound once."""

    def __init__(self, slots: Slots, rows: int) -> None:
        self._slots, session, at = slots, slots.step_session, slots.at
        self._binding = session.io_binding()
        for name, buffer in slots.buffers.items():
            place = (at.device, at.index, slots.dtype, [rows, *buffer.shape()[1:]], buffer.data_ptr())
            self._binding.bind_input(name, *place)
            if name.startswith("past"):
                self._binding.bind_output(f"next_{name}", *place)
        for name, value in slots.ranges.items():
            self._binding.bind_ortvalue_input(name, value)
        self.control = np.zeros((rows, 6), np.int64)
        self._control = slots.value(self.control)
        self._binding.bind_ortvalue_input("control", self._control)
        self._outputs: dict[str, ort.OrtValue] = {}
        for output in session.get_outputs():
            if output.name in ("numbers", "scores", "attention"):
                shape = [rows, *(slots.n_frames if d == "frames" else d for d in output.shape[1:])]
                dtype = np.float16 if "float16" in output.type else np.float32
                self._outputs[output.name] = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, at.device, at.index)
                self._binding.bind_ortvalue_output(output.name, self._outputs[output.name])
        self._options = ort.RunOptions()
        if at.cuda_graphs and at.device == "cuda":
            self._options.add_run_config_entry("gpu_graph_id", str(rows))

    def __call__(self) -> tuple[Float, Array, _Fetched]:
        """Runs `control`; numbers, attention, all log-probabilities."""
        self._control.update_inplace(self.control)
        self._slots.step_session.run_with_iobinding(self._binding, self._options)
        numbers, attention = (cast("Array", self._outputs[n].numpy()) for n in ("numbers", "attention"))
        return numbers, attention, _Fetched(self._outputs["scores"])


class Slots:
    """`most_at_once` windows are encoded together."""

    def __init__(
        self, folder: Path, encoder: Path, at: Place, *, max_rows: int, most_at_once: int, longest_window: int
    ) -> None:  # fmt: skip
        """`folder` holds `GRAPHS`; `longest_window` in samples. Raises `DeviceUnavailable`."""
        self.at, self.most_at_once = at, most_at_once
        self._encoder = open_session(encoder, at)
        loaded = {n: open_session(folder / f"{n}.onnx", at, captured=at.cuda_graphs and n == "step") for n in GRAPHS}
        self._cross, self._prefill, self._place, self._move, self.step_session = (loaded[n] for n in GRAPHS)
        shapes = {i.name: i for i in self.step_session.get_inputs()}
        layers = sum(name.startswith("past_k_") for name in shapes)
        self.dtype = np.float16 if "float16" in shapes["past_k_0"].type else np.float32
        self.n_frames = longest_window // FRAME_SAMPLES
        self._max_rows = max_rows
        sizes: dict[Any, Any] = {"cache": CACHE, "frames": self.n_frames}
        names = [f"{kind}_{i}" for i in range(layers) for kind in KINDS]
        # one more than there are rows, for what a first pass found and nobody wants; zeros, because what is masked is
        # still multiplied, and must be a number
        self.buffers = {
            n: self.value(np.zeros([max_rows + 1, *(sizes.get(d, d) for d in shapes[n].shape[1:])], self.dtype))
            for n in names
        }
        lengths = {"cached": CACHE, "heard": self.n_frames}
        self.ranges = {n: self.value(np.arange(length).reshape(1, 1, 1, -1)) for n, length in lengths.items()}
        self._buckets = [*(1 << k for k in range(max_rows.bit_length()) if 1 << k < max_rows), max_rows]
        self._steps: dict[int, _Step] = {}
        self.clear()

    def value(self, array: Array) -> ort.OrtValue:
        """A copy on the device."""
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.at.device, self.at.index)

    def _run(
        self, session: ort.InferenceSession, inputs: Mapping[str, ort.OrtValue], outputs: Sequence[str]
    ) -> dict[str, ort.OrtValue]:
        """What stays on the device."""
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, self.at.device, self.at.index)
        session.run_with_iobinding(binding)
        return dict(zip(outputs, binding.get_outputs(), strict=True))

    def frames(self, window: Array) -> int:
        return len(window) // FRAME_SAMPLES

    def prefill(self, windows: Sequence[Array], tokens: Integers, asks: Sequence[Sequence[Ask]]) -> list[Seen]:
        n = tokens.shape[1]
        began = time.perf_counter()
        hidden = self._run(self._encoder, {"audio": self.value(np.stack(windows))}, ["hidden_states"])
        encode_ms = (time.perf_counter() - began) * 1000
        crosses = [name for name in self.buffers if name.startswith("cross")]
        heard = self._run(self._cross, hidden, crosses)
        feeds = {
            "tokens": tokens,
            "positions": np.arange(n)[None],
            "places": np.array([[i * n + a.position for a in row] for i, row in enumerate(asks)], np.int64),
            "rule": np.array([[a.rule for a in row] for row in asks], np.int64),
            "asked": np.array([[a.target for a in row] for row in asks], np.int64),
            "self_mask": np.triu(np.full((1, 1, n, n), -1e4, self.dtype), 1),
        }
        pasts = {name: name.replace("past", "present") for name in self.buffers if name.startswith("past")}
        outputs = ["numbers", "scores", "attention", *pasts.values()]
        found = self._run(self._prefill, {name: self.value(v) for name, v in feeds.items()} | heard, outputs)
        numbers, attention = (cast("Array", found[name].numpy()) for name in ("numbers", "attention"))
        scores, values = _Fetched(found["scores"]), heard | {name: found[p] for name, p in pasts.items()}
        return [
            Seen(
                _Seat(n, self.frames(window), row=i, values=values),
                [Podium(numbers[i, k], a.target, partial(scores.at, i, k)) for k, a in enumerate(asks[i])],
                [attention[i, k].astype(np.float32) for k in range(len(asks[i]))],
                encode_ms,
            )
            for i, window in enumerate(windows)
        ]

    def fork(self, seat: Seat) -> Seat:
        return replace(cast("_Seat", seat))

    def join(self, seats: Sequence[Seat]) -> None:
        together: dict[tuple[int, int], list[_Seat]] = {}
        doubles: Counter[tuple[int, int]] = Counter()
        for seat in cast("Sequence[_Seat]", seats):  # a row of a first pass into one slot at a time
            made = (id(seat.values), seat.row)
            together.setdefault((made[0], doubles[made]), []).append(seat)
            doubles[made] += 1
        for members in together.values():
            values = members[0].values
            assert values is not None
            batch, _, length, _ = values["past_k_0"].shape()
            slots = np.full((batch, 1), self._max_rows)
            for seat in members:
                seat.place, seat.values = heapq.heappop(self._free), None
                slots[seat.row] = seat.place
            missing, deaf = CACHE - length, self.n_frames - members[0].frames
            pads = {"past": [0] * 6 + [missing, 0], "cross_k": [0] * 7 + [deaf], "cross_v": [0] * 6 + [deaf, 0]}
            binding = self._place.io_binding()
            binding.bind_ortvalue_input("slots", self.value(slots))
            for name, pad in pads.items():
                binding.bind_cpu_input(f"{name}_pads", np.array(pad, np.int64))
            for name, value in values.items():
                binding.bind_ortvalue_input(f"new_{name}", value)
                binding.bind_ortvalue_input(name, self.buffers[name])
                binding.bind_ortvalue_output(f"next_{name}", self.buffers[name])
            self._place.run_with_iobinding(binding)

    def _reseat(self, turns: Sequence[Turn]) -> None:
        moved = [(t.source.place, t.seat.place) for t in turns if t.source is not t.seat]
        if not moved:
            return
        sources, slots = np.array(moved, np.int64).T
        binding = self._move.io_binding()
        binding.bind_ortvalue_input("sources", self.value(sources))
        binding.bind_ortvalue_input("slots", self.value(slots[:, None]))
        for name, buffer in self.buffers.items():
            if name.startswith("past"):
                binding.bind_ortvalue_input(name, buffer)
                binding.bind_ortvalue_output(f"next_{name}", buffer)
        self._move.run_with_iobinding(binding)

    def step(self, turns: Sequence[Turn]) -> list[tuple[Ranking, Float]]:
        self._reseat(turns)
        highest = max(turn.seat.place for turn in turns) + 1
        rows = next(b for b in self._buckets if b >= highest)
        if rows not in self._steps:
            self._steps[rows] = _Step(self, rows)
        step = self._steps[rows]
        step.control[:] = [[0, 0, 0, 0, slot, 1] for slot in range(rows)]
        for turn in turns:
            seat = turn.seat
            step.control[seat.place] = turn.token, seat.length, turn.rule, 0, seat.place, seat.frames
            seat.length += 1
        numbers, attention, scores = step()
        found: list[tuple[Ranking, Float]] = []
        for turn in turns:
            k = turn.seat.place
            heard = attention[k, :, 0, : turn.seat.frames].astype(np.float32)
            found.append((Podium(numbers[k, 0], 0, partial(scores.at, k, 0)), heard))
        return found

    def leave(self, seat: Seat) -> None:
        heapq.heappush(self._free, seat.place)

    def clear(self) -> None:
        self._free = list(range(self._max_rows))
