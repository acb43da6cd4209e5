"""Where a second of CPU goes: `python -m bench.profile`, with Linux' `perf` (Debian's linux-perf, as root).

Starts `voiceforge serve` with `nano`, plays live streams to it, and samples the front end and each process of Triton.
A sample belongs to the library that the processor was in: what Python, ONNX Runtime, gRPC, Triton and the kernel cost is
told apart without instrumenting any of them. Prints a table for each number of streams, writes bench/results/profile.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil

from bench.load import Clip, run
from bench.recovery import PARTS
from bench.speech import clips
from bench.streaming import GAP_S, RESULTS, processes, wait_ready
from frontend.embedded.layout import free_ports

SAMPLES_A_SECOND = 499
"""Not a divisor of what timers run at, which would be met again and again at the same place."""
WARM_UP_S = 5.0
LIBRARIES = (
    ("ONNX Runtime", r"onnxruntime"),
    ("gRPC", r"cygrpc|grpc"),
    ("Triton", r"triton"),
    ("numpy", r"_multiarray_umath|numpy|openblas"),
    ("kernel", r"kernel|vdso|vmlinux"),
    ("C library", r"^lib(c|m|stdc\+\+|pthread|gcc_s)[.-]|^ld-"),
    ("event loop", r"uvloop|^loop\.cpython|_asyncio|select|_socket|_ssl|libssl|libcrypto"),
    ("Python", r"python|cpython"),
)
"""What a file of code belongs to; the first that matches. tritonserver has its gRPC inside."""
Shares = Mapping[str, Mapping[str, float]]
"""Percent of all CPU time sampled, by process and library."""


def library(file: str) -> str:
    return next((name for name, pattern in LIBRARIES if re.search(pattern, file)), "other")


def shares(report: str, names: Mapping[int, str]) -> Shares:
    """From what `perf report --sort pid,dso --field-separator ;` says: `12.3;  417:python;libpython3.11.so`. `names` are of
    threads: that is what perf calls a pid here."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in report.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        share, process, file = (part.strip() for part in line.split(";")[:3])
        thread = int(process.split(":")[0])
        found[names.get(thread, "other")][library(file)] += float(share.rstrip("%"))
    return found


def named(front: int) -> dict[int, str]:
    """The server's processes: workers and decoders are the front end, Triton's are told apart by the model."""
    groups = processes(front)
    names = {p.pid: "front end" for p in groups["front end"]}
    for p in groups["triton"]:
        arguments = " ".join(p.cmdline())
        names[p.pid] = next((part for part, known in PARTS.items() if known in arguments or known == p.name()), p.name())
    return names


def threads(names: Mapping[int, str]) -> dict[int, str]:
    return {t.id: name for pid, name in names.items() for t in psutil.Process(pid).threads()}


async def sampled(url: str, speech: list[Clip], streams: int, seconds: float, names: Mapping[int, str]) -> Shares:
    """Samples the processes for so many seconds of a load of `streams`."""
    load = asyncio.create_task(run(url, speech, streams, round((seconds + WARM_UP_S) / GAP_S), GAP_S))
    await asyncio.sleep(WARM_UP_S)
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "perf.data")
        record = ["-F", str(SAMPLES_A_SECOND), "-o", data, "-p", ",".join(map(str, names)), "--", "sleep", str(seconds)]
        running = threads(names)
        await _perf("record", *record)
        running |= threads(names)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        return shares(await _perf("report", "-i", data, "--stdio", "--sort", "pid,dso", "--field-separator", ";"), running)


async def _perf(*arguments: str) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("perf", *arguments, stdout=pipe, stderr=pipe)
    out, errors = await process.communicate()
    if process.returncode:
        raise SystemExit(f"perf {arguments[0]} failed: {errors.decode().strip()}")
    return out.decode()


def table(found: Shares) -> str:
    """Markdown, the largest row and column first; what is below half a percent everywhere is left out."""
    columns: dict[str, float] = defaultdict(float)
    for row in found.values():
        for name, share in row.items():
            columns[name] += share
    heads = [name for name, share in sorted(columns.items(), key=lambda c: -c[1]) if share >= 0.5]
    lines = [f"| % of CPU | {' | '.join(heads)} | together |", "|---" * (len(heads) + 2) + "|"]
    for process, row in sorted(found.items(), key=lambda r: -sum(r[1].values())):
        cells = [f"{row.get(name, 0):.1f}" for name in heads]
        lines.append(f"| {process} | {' | '.join(cells)} | {sum(row.values()):.1f} |")
    lines.append(f"| together | {' | '.join(f'{columns[name]:.1f}' for name in heads)} | {sum(columns.values()):.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 20, 60])
    parser.add_argument("--seconds", type=float, default=30)
    args = parser.parse_args()
    if not shutil.which("perf"):
        raise SystemExit("perf is not installed; on Debian: apt-get install linux-perf")
    speech, port = clips(60), free_ports(1)[0]
    server = subprocess.Popen([sys.executable, "-m", "frontend", "serve", "--model", "nano", "--port", str(port)])
    found: dict[str, Shares] = {}
    try:
        wait_ready(server, port)
        for n in args.streams:
            names = named(server.pid)
            before = {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in names}
            found[str(n)] = asyncio.run(sampled(f"ws://127.0.0.1:{port}/ws/v1/transcribe", speech, n, args.seconds, names))
            used = sum(sum(psutil.Process(pid).cpu_times()[:2]) - before[pid] for pid in names)
            print(
                f"\n{n} streams, {used / (args.seconds + WARM_UP_S):.2f} of {os.cpu_count()} cores\n\n{table(found[str(n)])}"
            )
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "profile.json").write_text(json.dumps(found, indent=1) + "\n")
    finally:
        server.terminate()
        server.wait(40)


if __name__ == "__main__":
    main()
