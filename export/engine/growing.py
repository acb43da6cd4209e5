"""The batch on a CPU: caches as long as they must be, grown by a token a step, numpy in between.

Rows are aligned to the right: shorter caches are padded on the left and masked, so every row appends at the same place.
The rows of one window lie side by side and share its cross-attention; every window has as many rows as the one with the
most. Finished rows stay as dead weight until the batch is repacked, which happens when rows join or half of them are dead.
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
class _Window:
    cross: list[Array]
    """Keys and values, while it is not in the batch."""
    place: int = -1


@dataclass(eq=False)
class _Seat(Seat):
    window: _Window = field(default_factory=lambda: _Window([]))
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
        self._past_length = self._rows_each = 0

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
                _Seat(tokens.shape[1], len(window), i, _Window([c[i] for c in cross]), [p[i] for p in present]),
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
        if len(turns) <= len(self._pads) // 2:
            self._repack()
        total, rows = self._past_length + 1, len(self._pads)
        mask = np.where(np.arange(total)[None, :] < self._pads[:, None], self._dtype(-1e4), self._dtype(0))
        tokens, positions, sources = np.zeros((rows, 1), np.int64), np.zeros((rows, 1), np.int64), np.arange(rows)
        for turn in turns:
            place = turn.seat.place
            tokens[place], positions[place], sources[place] = turn.token, turn.seat.length, turn.source.place
        if (sources != np.arange(rows)).any():
            for name in (f"past_{n}" for n in self._kv):
                self._feeds[name] = ort.OrtValue.ortvalue_from_numpy(self._feeds[name].numpy()[sources])
        step = {"tokens": tokens, "positions": positions, "self_mask": np.ascontiguousarray(mask[:, None, None, :])}
        feeds = self._feeds | {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in step.items()}
        logits_value, attention_value, *present = self._decoder.run_with_ort_values(self._outputs, feeds)
        self._feeds |= {f"past_{n}": v for n, v in zip(self._kv, present, strict=True)}
        self._past_length = total
        logits, attention = logits_value.numpy(), attention_value.numpy()
        found: list[tuple[Ranking, Float]] = []
        for turn in turns:
            seat = turn.seat
            seat.length += 1
            window, row = divmod(seat.place, self._rows_each)
            ranking = self._ranking(logits[seat.place, 0], turn.rule)
            found.append((ranking, attention[window, :, row, : seat.frames]))  # the batch's widest window is wider
        return found

    def _repack(self, joined: Sequence[_Seat] = ()) -> None:
        """Builds the batch anew from the living rows and those that join."""
        living = [s for s in self._seats if s.alive]
        if living:
            pasts, crosses = ([self._feeds[f"{kind}_{n}"].numpy() for n in self._kv] for kind in ("past", "cross"))
            for seat in living:
                seat.past = [p[seat.place, :, int(self._pads[seat.place]) :] for p in pasts]
                window = seat.window
                window.cross = window.cross or [
                    c[window.place, :, :, : seat.frames] if n.startswith("k") else c[window.place, :, : seat.frames]
                    for n, c in zip(self._kv, crosses, strict=True)
                ]
        self._seats = [*living, *joined]
        together: dict[_Window, list[_Seat]] = {}
        for seat in self._seats:
            together.setdefault(seat.window, []).append(seat)
        self._rows_each = max(map(len, together.values()))
        self._past_length = max(s.length for s in self._seats)
        frames = max(s.frames for s in self._seats)
        rows = len(together) * self._rows_each
        self._pads = np.full(rows, self._past_length)
        mask = np.zeros((len(together), 1, 1, frames), self._dtype)
        for k, (window, members) in enumerate(together.items()):
            window.place = k
            mask[k, :, :, members[0].frames :] = -1e4
            for i, seat in enumerate(members):
                seat.place = k * self._rows_each + i
                self._pads[seat.place] = self._past_length - seat.length
        feeds: dict[str, Array] = {"cross_mask": mask}
        for k, name in enumerate(self._kv):
            past = np.zeros((rows, self._heads, self._past_length, self._width), self._dtype)
            for seat in self._seats:
                past[seat.place, :, self._pads[seat.place] :] = seat.past[k]
            keys = name.startswith("k")
            shape = (self._heads, self._width, frames) if keys else (self._heads, frames, self._width)
            cross = np.zeros((len(together), *shape), self._dtype)
            for window, members in together.items():
                heard = (
                    (slice(None), slice(None), slice(members[0].frames)) if keys else (slice(None), slice(members[0].frames))
                )
                cross[(window.place, *heard)] = window.cross[k]
            feeds[f"past_{name}"], feeds[f"cross_{name}"] = past, cross
        for seat in self._seats:
            seat.past, seat.window.cross = [], []
        self._feeds = {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in feeds.items()}
