"""Live streams over the WebSocket front end: which tuning to serve with, how many keep the promise, how long they wait."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.gpu.engine import Exported, chosen, failure
from bench.gpu.machine import Sampler
from bench.gpu.plan import Target, broken, choose_tuning, streams_at_slo, verdict
from bench.gpu.results import Deadline, Results, Row
from bench.load import Clip, Measured, run
from bench.streaming import GAP_S, cpu_seconds, processes, summary, wait_ready
from export.nano.evaluate import word_errors
from export.repository import retune
from frontend.embedded.layout import free_ports

ENDING_S = 12.0
"""Of a row, beside its audio: starts spread over three seconds, the last finals, the processes of the load."""
LAST_LINES = 12
LAST = "latency half"
"""The row with which a ramp is complete."""
SERVED_S = 40.0
"""To start a server and to stop it."""


class ServerFailed(RuntimeError):
    """`voiceforge serve` did not get ready; the message has the end of its log."""


@contextmanager
def server(target: Target, model: Exported, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`voiceforge serve` with several workers: its stream URL and its process. Raises `ServerFailed`."""
    port = free_ports(1)[0]
    environment = os.environ | {
        "VOICEFORGE_MAX_CONNECTIONS": str(2 * max(1000, *target.sizes.streams)),
        "VOICEFORGE_ADMIT_LAG_S": "60",  # to see where the promise breaks, rather than sessions refused before it does
        "VOICEFORGE_MODEL_REPOSITORY": str(model.repository.resolve()),
    }
    command = [sys.executable, "-m", "frontend", "serve", "--model", model.name, "--port", str(port), "--verbose"]
    command += ["--workers", str(target.sizes.workers)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            try:
                wait_ready(process, port, target.sizes.start_s)
            except TimeoutError as error:
                lines = log.read_text("utf-8", "replace").splitlines()
                telling = [s for s in lines if "rror" in s or "UNAVAILABLE" in s] or lines
                raise ServerFailed("\n".join([str(error), *telling[-LAST_LINES:]])) from None
            yield f"ws://127.0.0.1:{port}/ws/v1/transcribe", process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _share(url: str, clips: list[Clip], streams: int, utterances: int, seed: int) -> list[Measured]:
    return asyncio.run(run(url, clips, streams, utterances, GAP_S, seed))


def play(url: str, clips: Sequence[Clip], streams: int, utterances: int, load_processes: int) -> list[Measured]:
    """So many streams at once, from several processes: one cannot pace a thousand."""
    n = min(load_processes, streams)
    shares = [streams // n + (k < streams % n) for k in range(n)]
    with ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(_share, url, list(clips), share, utterances, 5 + k) for k, share in enumerate(shares)]
        return [measured for part in parts for measured in part.result()]


def row(
    target: Target, url: str, process: subprocess.Popen[bytes], clips: Sequence[Clip], streams: int, utterances: int,
    calm: Mapping[str, str] | None,
) -> Row:  # fmt: skip
    """One row, as bench.streaming has them; `calm`: what was understood of each text under no load."""
    groups = processes(process.pid)
    before, began = cpu_seconds(groups), time.monotonic()
    with Sampler(target.device) as sampler:
        results = play(url, clips, streams, utterances, target.sizes.load_processes)
    took, after = time.monotonic() - began, cpu_seconds(groups)
    found = summary(streams, results, {k: round((after[k] - before[k]) / took, 3) for k in after})
    references = [t for m in results for t in m.references]
    found["calm_wer"] = round(word_errors(references, [calm[t] for t in references]).wer, 2) if calm else found["wer"]
    found["heard"] = {r: h for m in results for r, h in zip(m.references, m.hypotheses, strict=True)} if calm is None else {}
    found["errors"] = found["errors"][:10]
    found["gpu"] = sampler.summary()
    return found


def _lasts_s(clips: Sequence[Clip], utterances: int) -> float:
    return utterances * (max(len(c.audio) for c in clips) / 16_000 + GAP_S) + ENDING_S


def tune(target: Target, results: Results, model: Exported, clips: Sequence[Clip], deadline: Deadline) -> None:
    """Serves the model with each tuning of the plan to some streams, and keeps the best for what follows."""
    part = f"tuning {model.name}"
    sizes, options = target.sizes, chosen(results, model.name)
    needed = _lasts_s(clips, 2) + SERVED_S
    for instances, rows in sizes.tunings:
        key = f"{instances} x {rows}"
        if results.has(part, key) or not deadline.has(needed):
            continue
        try:
            retune(model.repository, model.name, target.tuning(instances=instances, max_rows=rows, **options))
            with server(target, model, results.path.with_name("server.log")) as (url, process):
                found = row(target, url, process, clips, sizes.probe_streams, 2, None)
                found.pop("heard")
                results.record(part, key, found)
        except Exception as error:
            results.record(part, key, failure(error))


def tuned(target: Target, results: Results, model: str) -> dict[str, Any]:
    """The tuning to serve a model with, by the rows of `tune`; the plan's first where it was not run."""
    rows = {tuple(map(int, k.split(" x "))): r for k, r in results.part(f"tuning {model}").items()}
    instances, max_rows = choose_tuning(rows) if rows else target.sizes.tunings[0]  # type: ignore[arg-type]
    return {"instances": instances, "max_rows": max_rows, **chosen(results, model)}


def ramp(
    target: Target, results: Results, model: Exported, clips: Sequence[Clip], deadline: Deadline, *,
    judged_by_text: bool,
) -> None:  # fmt: skip
    """More and more streams until the promise breaks twice; then latency with one stream and with half of what kept it.

    `judged_by_text`: whether its word error rate means something.
    """
    part, sizes = f"streams {model.name}", target.sizes
    if results.has(part, LAST) or not deadline.has(_lasts_s(clips, sizes.utterances) + SERVED_S):
        return
    try:
        settings = tuned(target, results, model.name)
        retune(model.repository, model.name, target.tuning(**settings))
        with server(target, model, results.path.with_name("server.log")) as (url, process):
            results.forget(part, "failed")

            def one(key: str, streams: int, utterances: int, calm: Mapping[str, str] | None) -> None:
                if results.has(part, key) or not deadline.has(_lasts_s(clips, utterances)):
                    return
                found = row(target, url, process, clips, streams, utterances, calm)
                found["verdict"] = verdict(found, judged_by_text=judged_by_text)
                results.record(part, key, found | {"served": settings})

            one("calm", sizes.calm_streams, max(1, -(-len(clips) * 2 // sizes.calm_streams)), None)
            calm = results.part(part).get("calm", {}).get("heard")
            known = [c for c in clips if calm and c.text in calm]
            if not known:
                return
            clips = known
            for streams in sizes.streams:
                one(str(streams), streams, sizes.utterances, calm)
                if sum(broken(r["verdict"]) for r in _loaded(results, part)) >= 2:
                    break
            kept = streams_at_slo(_loaded(results, part))
            one("latency 1", 1, 2 * sizes.utterances, calm)
            one(LAST, max(1, kept // 2), sizes.utterances, calm)
    except Exception as error:
        results.record(part, "failed", failure(error))


def _loaded(results: Results, part: str) -> list[Row]:
    return [r for k, r in results.part(part).items() if k.isdigit()]
