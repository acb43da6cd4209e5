"""The batch on a CPU: caches as long as they must be, grown by a token a step, numpy in between.

Rows are aligned to the right: shorter caches are padded on the left and masked, so every row appends at the same place.
Finished rows stay as dead weight until the batch is repacked, which happens when rows join or half of them are dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort

from .batch import Array, Ask, Float, Integers, Seat, Seen, Turn, run
from .scores import Listed, Ranking, Rule, log_softmax
from .vocabulary import Vocabulary


def sessions(folder: Path, providers: Sequence[str], threads: int) -> dict[str, ort.InferenceSession]:
    """`cross.onnx` and `decoder.onnx` of a model version folder."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        n: ort.InferenceSession(str(folder / f"{n}.onnx"), options, providers=list(providers)) for n in ("cross", "decoder")
    }


@dataclass(eq=False)
class _Seat(Seat):
    cross: list[Array] = field(default_factory=list[Array])
    past: list[Array] = field(default_factory=list[Array])
    """While it is not in the batch."""
    alive: bool = True


class Growing:
    """Windows are hidden states, float32 (T, d)."""

    most_at_once = 1 << 30

    def __init__(self, cross: ort.InferenceSession, decoder: ort.InferenceSession, vocabulary: Vocabulary) -> None:
        self._cross, self._decoder, self._vocabulary = cross, decoder, vocabulary
        shapes = {i.name: i for i in decoder.get_inputs()}
        layers = sum(name.startswith("past_k_") for name in shapes)
        self._heads, self._width = shapes["past_k_0"].shape[1], shapes["past_k_0"].shape[3]
        self._dtype = np.float16 if "float16" in shapes["past_k_0"].type else np.float32
        self._kv = [f"{kv}_{i}" for i in range(layers) for kv in "kv"]
        self._outputs = ["logits", "attention", *(f"present_{n}" for n in self._kv)]
        self._seats: list[_Seat] = []
        self._feeds: dict[str, ort.OrtValue] = {}
        self._pads: Integers = np.zeros(0, np.int64)
        self._past_length = 0

    def frames(self, window: Array) -> int:
        return len(window)

    def first_pass(self, hidden: Array, tokens: Integers) -> tuple[list[Array], list[Array]]:
        """Cross-attention's keys and values, and the decoder's outputs for `tokens` (B, n) from an empty cache."""
        cross = run(self._cross, [f"cross_{n}" for n in self._kv], {"hidden_states": hidden})
        batch, n = tokens.shape
        causal = np.triu(np.full((n, n), -1e4, self._dtype), 1)
        feeds: dict[str, Array] = {
            "tokens": tokens,
            "positions": np.tile(np.arange(n), (batch, 1)),
            "self_mask": np.tile(causal, (batch, 1, 1, 1)),
            "cross_mask": np.zeros((batch, 1, 1, hidden.shape[1]), self._dtype),
        }
        feeds |= {f"cross_{name}": value for name, value in zip(self._kv, cross, strict=True)}
        feeds |= {f"past_{name}": np.zeros((batch, self._heads, 0, self._width), self._dtype) for name in self._kv}
        return cross, run(self._decoder, self._outputs, feeds)

    def prefill(self, windows: Sequence[Array], tokens: Integers, asks: Sequence[Sequence[Ask]]) -> list[Seen]:
        cross, (logits, attention, *present) = self.first_pass(np.stack(windows), tokens)
        return [
            Seen(
                _Seat(tokens.shape[1], len(window), i, [c[i] for c in cross], [p[i] for p in present]),
                [self._ranking(logits[i, ask.position], ask.rule) for ask in asks[i]],
                [attention[i, :, ask.position] for ask in asks[i]],
            )
            for i, window in enumerate(windows)
        ]

    def _ranking(self, logits: Float, rule: Rule) -> Ranking:
        if rule is Rule.ANYTHING:
            return Listed(log_softmax(logits))
        if rule is Rule.LANGUAGE:
            known = list(self._vocabulary.language_ids.values())
            scores = np.full(len(logits), -np.inf, np.float32)
            scores[known] = log_softmax(logits[known])
            return Listed(scores)
        allowed = self._vocabulary.suppress(logits.copy(), first=rule is Rule.FIRST, new_word=rule is Rule.NEW_WORD)
        return Listed(log_softmax(allowed))

    def fork(self, seat: Seat) -> Seat:
        return replace(cast("_Seat", seat))

    def join(self, seats: Sequence[Seat]) -> None:
        self._repack(cast("Sequence[_Seat]", seats))

    def leave(self, seat: Seat) -> None:
        cast("_Seat", seat).alive = False
        if not any(s.alive for s in self._seats):
            self.clear()

    def clear(self) -> None:
        self._seats, self._feeds = [], {}

    def step(self, turns: Sequence[Turn]) -> list[tuple[Ranking, Float]]:
        if len(turns) <= len(self._seats) // 2:
            self._repack()
        total = self._past_length + 1
        mask = np.where(np.arange(total)[None, :] < self._pads[:, None], self._dtype(-1e4), self._dtype(0))
        tokens = np.zeros((len(self._seats), 1), np.int64)
        sources = np.arange(len(self._seats))
        for turn in turns:
            tokens[turn.seat.place] = turn.token
            sources[turn.seat.place] = turn.source.place
        if (sources != np.arange(len(sources))).any():
            for name in (f"past_{n}" for n in self._kv):
                self._feeds[name] = ort.OrtValue.ortvalue_from_numpy(self._feeds[name].numpy()[sources])
        step = {
            "tokens": tokens,
            "positions": np.array([[s.length] for s in self._seats], np.int64),
            "self_mask": np.ascontiguousarray(mask[:, None, None, :]),
        }
        feeds = self._feeds | {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in step.items()}
        logits_value, attention_value, *present = self._decoder.run_with_ort_values(self._outputs, feeds)
        self._feeds |= {f"past_{n}": v for n, v in zip(self._kv, present, strict=True)}
        self._past_length = total
        logits, attention = logits_value.numpy(), attention_value.numpy()
        found: list[tuple[Ranking, Float]] = []
        for turn in turns:
            seat = turn.seat
            seat.length += 1
            ranking = self._ranking(logits[seat.place, 0], turn.rule)
            found.append((ranking, attention[seat.place, :, 0, : seat.frames]))  # the batch's widest window is wider
        return found

    def _repack(self, joined: Sequence[_Seat] = ()) -> None:
        """Builds the batch anew from the living rows and those that join."""
        living = [s for s in self._seats if s.alive]
        pasts = [self._feeds[f"past_{n}"].numpy() for n in self._kv] if living else []
        for seat in living:
            seat.past = [p[seat.place, :, int(self._pads[seat.place]) :] for p in pasts]
        self._seats = [*living, *joined]
        self._past_length = max(s.length for s in self._seats)
        frames = max(s.frames for s in self._seats)
        batch = len(self._seats)
        self._pads = np.array([self._past_length - s.length for s in self._seats], np.int64)
        mask = np.zeros((batch, 1, 1, frames), self._dtype)
        feeds: dict[str, Array] = {"cross_mask": mask}
        for i, seat in enumerate(self._seats):
            seat.place = i
            mask[i, :, :, seat.frames :] = -1e4
        for k, name in enumerate(self._kv):
            past = np.zeros((batch, self._heads, self._past_length, self._width), self._dtype)
            keys = name.startswith("k")
            shape = (batch, self._heads, self._width, frames) if keys else (batch, self._heads, frames, self._width)
            cross = np.zeros(shape, self._dtype)
            for i, seat in enumerate(self._seats):
                n = seat.frames
                past[i, :, self._pads[i] :] = seat.past[k]
                cross[(i, slice(None), slice(None), slice(n)) if keys else (i, slice(None), slice(n))] = seat.cross[k]
            feeds[f"past_{name}"], feeds[f"cross_{name}"] = past, cross
        for seat in self._seats:
            seat.past = []
        self._feeds = {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in feeds.items()}
