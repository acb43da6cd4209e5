"""The engine by itself, in this process: its encoder, its step, and whole windows at so many in flight."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.gpu.machine import Sampler, placement
from bench.gpu.plan import Target, choose_cuda_graphs, choose_encoder_batch, out_of_memory
from bench.gpu.results import Deadline, Results, Row
from bench.load import Clip
from export.checkpoint import open_checkpoint
from export.engine.batch import Ask, Turn
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.scores import Rule
from export.engine.slots import GRAPHS, Place, Slots
from export.repository import vocabulary

RATE = 16_000
Pcm = npt.NDArray[np.int16]
WINDOW_S = 30
FLIGHT_S = 30.0
"""For what is still in flight when a row ends."""


@dataclass(frozen=True)
class Exported:
    """A model of the repository: its graphs, and the checkpoint that they were made from."""

    repository: Path
    name: str
    checkpoint: Path

    @contextmanager
    def loaded(self, target: Target, *, max_rows: int, encoder_batch: int, cuda_graphs: bool = False) -> Iterator[Slots]:
        """On the target's device, for windows of up to 30 s."""
        encoder = self.repository / f"whisper_{self.name}_encoder" / "1" / "model.onnx"
        place = Place(target.device, threads=2 if target.device == "cpu" else 1, cuda_graphs=cuda_graphs)
        slots = Slots(
            self.repository / f"whisper_{self.name}" / "1", encoder, place, max_rows=max_rows, most_at_once=encoder_batch,
            longest_window=WINDOW_S * RATE,
        )  # fmt: skip
        yield slots

    def vocabulary(self) -> Any:
        return vocabulary(open_checkpoint(str(self.checkpoint)))


def padded(clip: Clip, window_s: float | None) -> Pcm:
    """In `window_s`, or in whole seconds that hold it."""
    n = round(window_s * RATE) if window_s else -(-len(clip.audio) // RATE) * RATE
    out = np.zeros(n, np.int16)
    out[: min(n, len(clip.audio))] = clip.audio[:n]
    return out


def failure(error: Exception) -> Row:
    """A row that says what went wrong."""
    kind = "out of memory" if out_of_memory(error) else f"{type(error).__name__}: {error}"
    return {"failed": kind.splitlines()[0][:300]}


def encode(target: Target, model: Exported, clips: Sequence[Clip], batch: int) -> Row:
    """First passes of full windows, `batch` at a time: encoder, cross-attention, prompt."""
    tokens = model.vocabulary()
    with model.loaded(target, max_rows=1, encoder_batch=batch) as slots:
        windows = [padded(clips[i % len(clips)], WINDOW_S) for i in range(batch)]
        prompt = np.array([tokens.prompt()] * batch, np.int64)
        asks = [[Ask(prompt.shape[1] - 1, Rule.FIRST)]] * batch
        slots.prefill(windows, prompt, asks)
        times: list[float] = []
        encoder_ms: list[float] = []
        end = time.perf_counter() + target.sizes.row_s / 2
        with Sampler(target.device) as sampler:
            while time.perf_counter() < end or len(times) < 2:
                began = time.perf_counter()
                encoder_ms.append(slots.prefill(windows, prompt, asks)[0].encode_ms)
                times.append(time.perf_counter() - began)
    took = float(np.median(times))
    return {
        "batch_ms": round(1000 * took, 2),
        "encoder_ms": round(float(np.median(encoder_ms)), 2),
        "windows_per_s": round(batch / took, 1),
        "gpu": sampler.summary(),
    }


def step(target: Target, model: Exported, clips: Sequence[Clip], rows: int, *, cuda_graphs: bool) -> Row:
    """Decode steps of so many rows, without anything around them."""
    tokens = model.vocabulary()
    prompt = np.array([tokens.prompt()], np.int64)
    with model.loaded(target, max_rows=rows, encoder_batch=1, cuda_graphs=cuda_graphs) as slots:
        first = [
            slots.prefill([padded(clips[i % len(clips)], WINDOW_S)], prompt, [[Ask(prompt.shape[1] - 1, Rule.FIRST)]])[0]
            for i in range(rows)
        ]
        slots.join([seen.seat for seen in first])
        said = [[seen.rankings[0].best(1)[0][0]] for seen in first]
        times: list[float] = []
        for _ in range(max(10, target.sizes.n_tokens)):
            turns = [Turn(seen.seat, text[-1], Rule.TEXT, seen.seat) for seen, text in zip(first, said, strict=True)]
            began = time.perf_counter()
            found = slots.step(turns)
            times.append(time.perf_counter() - began)
            for text, (ranking, _) in zip(said, found, strict=True):
                text.append(ranking.best(1)[0][0])
    return {
        "step_ms": round(1000 * float(np.median(times[3:])), 3),
        "first_ms": round(1000 * times[0], 1),
        "text": [text[:6] for text in said[:4]],
    }


def flight(
    target: Target, model: Exported, slots: Slots, clips: Sequence[Clip], in_flight: int, window_s: float | None
) -> Row:
    """Windows decoded one after the other, so many at once, with words and their times."""
    tokens = model.vocabulary()
    scheduler = Scheduler(slots, tokens, in_flight)
    windows = [padded(c, window_s) for c in clips]
    answers: queue.SimpleQueue[tuple[int, Hypothesis | Exception]] = queue.SimpleQueue()
    asked = 0

    def ask() -> None:
        nonlocal asked
        k = asked % len(clips)
        asked += 1
        n = min(len(clips[k].audio), len(windows[k]))
        scheduler.submit(Job(windows[k], n, tokens.prompt(), [], "en", True, lambda h: answers.put((n, h))))

    heard, found, n_tokens = 0, 0, 0
    try:
        for _ in range(2 * in_flight):  # warm, all sizes of the batch
            ask()
        for _ in range(2 * in_flight):
            _raised(answers.get(timeout=FLIGHT_S + target.sizes.start_s)[1])
        steps, rows = scheduler.n_steps, scheduler.n_rows_stepped
        with Sampler(target.device) as sampler:
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(in_flight):
                ask()
            while (wall := time.perf_counter() - began) < target.sizes.row_s or not found:
                n, hypothesis = answers.get(timeout=FLIGHT_S)
                heard, found, n_tokens = heard + n, found + 1, n_tokens + len(_raised(hypothesis).tokens)
                ask()
            cpu = time.process_time() - cpu
        gpu = sampler.summary()
        for _ in range(in_flight):
            answers.get(timeout=FLIGHT_S)
    finally:
        scheduler.stop()
    seconds = heard / RATE
    busy = wall * gpu["gpu_percent"] / 100 if gpu else None
    return {
        "audio_s_per_wall_s": round(seconds / wall, 1),
        "audio_s_per_gpu_s": round(seconds / busy, 1) if busy else None,
        "windows_per_s": round(found / wall, 1),
        "tokens_per_s": round(n_tokens / wall, 1),
        "mean_rows": round((scheduler.n_rows_stepped - rows) / max(1, scheduler.n_steps - steps), 1),
        "cpu_cores": round(cpu / wall, 2),
        "gpu": gpu,
    }


def _raised(answer: Hypothesis | Exception) -> Hypothesis:
    if isinstance(answer, Exception):
        raise answer
    return answer


def placed(target: Target, model: Exported) -> Row:
    """What of each graph is not on the device, and how much is."""
    folders = {"encoder": f"whisper_{model.name}_encoder"} | dict.fromkeys(GRAPHS, f"whisper_{model.name}")
    main = "CUDAExecutionProvider" if target.device == "cuda" else "CPUExecutionProvider"
    row: Row = {}
    for graph, folder in folders.items():
        file = "model.onnx" if graph == "encoder" else f"{graph}.onnx"
        found = placement(model.repository / folder / "1" / file, target.device)
        elsewhere = {op: n for provider, operators in found.items() if provider != main for op, n in operators.items()}
        row[graph] = {"on the device": sum(found.get(main, {}).values()), "elsewhere": elsewhere}
    return row


def sweep(target: Target, results: Results, model: Exported, clips: Sequence[Clip], deadline: Deadline) -> dict[str, Any]:
    """The encoder by batch and the step with and without CUDA graphs; what to serve `model` with."""
    part = f"sweep {model.name}"
    if not results.has(part, "placement"):
        results.record(part, "placement", _guarded(partial(placed, target, model)))
    for batch in target.sizes.batches:
        key = f"encoder {batch}"
        if not results.has(part, key) and deadline.has(2 * target.sizes.row_s):
            results.record(part, key, _guarded(partial(encode, target, model, clips, batch)))
        if results.part(part).get(key, {}).get("failed") == "out of memory":
            break
    rows = min(16, max(target.sizes.batches))
    for graphs in (False, True) if target.device == "cuda" else (False,):
        key = f"step {'replayed' if graphs else 'plain'}"
        if not results.has(part, key) and deadline.has(2 * target.sizes.row_s):
            results.record(part, key, _guarded(partial(step, target, model, clips, rows, cuda_graphs=graphs)))
    return chosen(results, model.name)


def chosen(results: Results, name: str) -> dict[str, Any]:
    """`encoder_batch` and `cuda_graphs` by the rows of a sweep, or the defaults where there are none."""
    rows = results.part(f"sweep {name}")
    encoders = {int(k.split()[1]): r for k, r in rows.items() if k.startswith("encoder ")}
    steps = {replayed: rows[k] for replayed, k in ((False, "step plain"), (True, "step replayed")) if k in rows}
    if "text" in steps.get(False, {}) and "text" in steps.get(True, {}):
        steps[True] = steps[True] | {"same_text": steps[True]["text"] == steps[False]["text"]}
    return {
        "encoder_batch": choose_encoder_batch(encoders) if encoders else 16,
        "cuda_graphs": choose_cuda_graphs(steps),
    }


def _guarded(work: Callable[[], Row]) -> Row:
    try:
        return work()
    except Exception as error:
        return failure(error)


def measure(target: Target, results: Results, models: Sequence[Exported], clips: Sequence[Clip], deadline: Deadline) -> None:
    """Every model, both windows, every number in flight; fp16 models with CUDA graphs as the sweep chose."""
    for model in models:
        options = chosen(results, model.name)
        wanted = [(w, n) for w in (WINDOW_S, None) for n in target.sizes.batches]
        keys = {(w, n): f"{model.name}, {'30 s windows' if w else 'own windows'}, {n}" for w, n in wanted}
        left = [pair for pair in wanted if not results.has("engine", keys[pair])]
        if not left or not deadline.has(3 * target.sizes.row_s):
            continue
        most = max(target.sizes.batches)
        while most:
            try:
                with model.loaded(target, max_rows=most, **options) as slots:
                    for window, n in left:
                        if results.has("engine", keys[window, n]) or not deadline.has(3 * target.sizes.row_s):
                            continue
                        if n > most:
                            results.record("engine", keys[window, n], {"failed": "out of memory"})
                            continue
                        row = _guarded(partial(flight, target, model, slots, clips, n, window))
                        slots.clear()
                        results.record("engine", keys[window, n], row)
                break
            except Exception as error:
                if not out_of_memory(error) or most == 1:
                    for pair in left:
                        if not results.has("engine", keys[pair]):
                            results.record("engine", keys[pair], failure(error))
                    break
                most //= 2  # the slots themselves do not fit
