"""Latency and capacity of a running server on this machine: `python -m bench.streaming`.

Starts `voiceforge serve` with `nano`, then plays held-out sentences to it in real time from this process, for growing
numbers of streams. Prints a table, writes bench/results/streaming.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.load import Measured, run
from bench.speech import clips
from export.nano.evaluate import NORMALISER, word_errors
from frontend.embedded.layout import free_ports

RESULTS = Path(__file__).parent / "results"
HANG_S = 0.5
GAP_S = 1.5


def percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{q}": round(1000 * float(np.percentile(values, q)), 1) if values else float("nan") for q in (50, 95, 99)}


def summary(streams: int, results: list[Measured], cpu: dict[str, float]) -> dict[str, Any]:
    """One row: latencies in ms, WER in percent, CPU seconds a second by process."""
    refused = sum(m.refused for m in results)
    results = [m for m in results if not m.refused]
    lag = [v for m in results for v in m.final_lag]
    score = word_errors([t for m in results for t in m.references], [t for m in results for t in m.hypotheses])
    return {
        "streams": streams,
        "refused": refused,
        "connect_ms": percentiles([m.connect for m in results]),
        "first_partial_ms": percentiles([v for m in results for v in m.first_partial]),
        "partial_interval_ms": percentiles([v for m in results for v in m.partial_gaps]),
        "final_lag_ms": percentiles(lag),
        "final_lag_without_hang_ms": percentiles([v - HANG_S for v in lag]),
        "early_endpoints": sum(v < HANG_S - 0.2 for v in lag),
        "wer": round(score.wer, 2),
        "utterances": len(lag),
        "errors": [e for m in results for e in (*m.errors, *(f"no final for {t!r}" for t in m.missed))],
        "client_lag_ms": round(1000 * max(m.client_lag for m in results), 1),
        "cpu": cpu,
    }


HEADER = (
    "streams  refused  connect  1st partial p50/p95  interval p50  final lag-hang p50/p95/p99     WER  early  errors  "
    "client lag  CPU front/Triton"
)


def line(row: dict[str, Any]) -> str:
    """A row of the table, in milliseconds, percent and cores."""
    first, lag, cpu = row["first_partial_ms"], row["final_lag_without_hang_ms"], row["cpu"]
    interval = row["partial_interval_ms"]["p50"]
    return (
        f"{row['streams']:7} {row['refused']:8} {row['connect_ms']['p50']:8.0f} "
        f"{first['p50']:12.0f} /{first['p95']:6.0f} {interval:13.0f} "
        f"{lag['p50']:18.0f} /{lag['p95']:6.0f} /{lag['p99']:6.0f} {row['wer']:9.1f} {row['early_endpoints']:6} "
        f"{len(row['errors']):7} {row['client_lag_ms']:11.0f} {cpu['front end']:11.2f} / {cpu['triton']:.2f}"
    )


def processes(pid: int) -> dict[str, list[psutil.Process]]:
    """The front end, its workers included, and what Triton is made of."""
    front = psutil.Process(pid)
    below = front.children(recursive=True)
    triton = [p for p in below if p.name().startswith("triton")]
    return {"front end": [front, *(p for p in below if p not in triton)], "triton": triton}


def cpu_seconds(groups: dict[str, list[psutil.Process]]) -> dict[str, float]:
    return {name: sum(sum(p.cpu_times()[:2]) for p in group if p.is_running()) for name, group in groups.items()}


def idle_memory(url: str, pid: int, n: int) -> float:
    """MiB of resident memory of the front end per idle connection."""
    from websockets.asyncio.client import connect

    async def measure() -> float:
        async def hold() -> object:
            ws = await connect(url, compression=None)
            await ws.recv()
            await ws.send(bytes(6400))
            return ws

        process = psutil.Process(pid)
        warm = await asyncio.gather(*(hold() for _ in range(5)))
        before = process.memory_info().rss
        held = await asyncio.gather(*(hold() for _ in range(n)))
        await asyncio.sleep(1)
        after = process.memory_info().rss
        for ws in [*warm, *held]:
            await ws.close()  # type: ignore[attr-defined]
        return (after - before) / n / 2**20

    return asyncio.run(measure())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 5, 10, 20, 30])
    parser.add_argument("--utterances", type=int, default=6, help="per stream")
    parser.add_argument("--chunk", type=int, default=100, help="milliseconds of audio in a message")
    parser.add_argument("--spread", type=float, default=3, help="seconds in which the streams begin")
    parser.add_argument("--out", type=Path, default=RESULTS / "streaming.json")
    args = parser.parse_args()
    speech = clips(60)
    port = free_ports(1)[0]
    environment = os.environ | {"VOICEFORGE_MAX_CONNECTIONS": "1000"}
    server = subprocess.Popen(
        [sys.executable, "-m", "frontend", "serve", "--model", "nano", "--port", str(port)], env=environment
    )
    try:
        wait_ready(server, port)
        url = f"ws://127.0.0.1:{port}/ws/v1/transcribe"
        memory = idle_memory(url, server.pid, 150)
        rows: list[dict[str, Any]] = []
        print(HEADER)
        for n in args.streams:
            groups = processes(server.pid)
            before, began = cpu_seconds(groups), time.monotonic()
            each = args.utterances if n > 1 else 4 * args.utterances
            results = asyncio.run(run(url, speech, n, each, GAP_S, chunk_s=args.chunk / 1000, spread_s=args.spread))
            took, after = time.monotonic() - began, cpu_seconds(groups)
            row = summary(n, results, {k: round((after[k] - before[k]) / took, 3) for k in after})
            rows.append(row)
            print(line(row), flush=True)
        print(f"front end, resident memory per connection: {memory:.2f} MiB")
        conditions = {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "normaliser": NORMALISER,
            "hang_s": HANG_S,
            "chunk_ms": args.chunk,
            "spread_s": args.spread,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps({"conditions": conditions, "memory_mib_per_connection": memory, "rows": rows}, indent=1) + "\n"
        )
    finally:
        server.terminate()
        server.wait(40)


def wait_ready(server: subprocess.Popen[bytes], port: int, timeout_s: float = 120) -> None:
    """Raises `TimeoutError` when it ended or is not ready in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the server did not get ready")


if __name__ == "__main__":
    main()
