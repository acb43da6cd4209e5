"""How many live streams one machine serves within the SLO, ours beside other servers: `python -m bench.streams`.

Each server gets the same checkpoint (the committed `nano`, converted for it), the same audio from the same paced client, the
same cores, one after the other in one run. What is measured is defined in `lags.py` and `slo.py`, how the servers are set up
in `servers.py`, their wires in `wires.py`. The others are installed on first use, into virtual environments below `--cache`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil

from bench.load import Clip
from bench.speech import clips
from bench.streams.measure import Row, enough, run, says
from bench.streams.report import HEADER, conditions, line, write
from bench.streams.servers import CANDIDATES, running
from bench.streams.slo import Verdict, climb, judge

RESULTS = Path(__file__).parent.parent / "results" / "streams"
GAP_S = 6.0
"""`nano` was trained on one sentence at a time, and WhisperLiveKit lets a model hear all since the last five seconds of
silence: with shorter pauses it would be judged by what this checkpoint makes of that."""
CACHE = Path.home() / ".cache" / "voiceforge-bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="ours,whisper-live,whisperlivekit,loop", help=f"of {', '.join(CANDIDATES)}")
    parser.add_argument("--streams", default="1,5,10,20,40,60", help="the steps of the ramp; one stream always comes first")
    parser.add_argument("--seconds", type=float, default=30, help="of sentences and pauses that each stream speaks")
    parser.add_argument("--gap", type=float, default=GAP_S, help="seconds of silence after each sentence (%(default)s)")
    parser.add_argument("--nice", type=int, default=5, help="of all servers, so that an overload does not delay the client")
    parser.add_argument("--cores", help="such as 0,1: servers and client run on these only")
    parser.add_argument("--threads", type=int, help="of one decode of the others (as many as there are cores)")
    parser.add_argument("--every-step", action="store_true", help="go on after a step that fails, and try none twice")
    parser.add_argument("--cache", type=Path, default=CACHE, help="virtual environments and converted checkpoints")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    names = args.servers.split(",")
    if unknown := [n for n in names if n not in CANDIDATES]:
        parser.error(f"no server {unknown[0]!r}; there are {', '.join(CANDIDATES)}")
    steps = [1, *sorted({int(n) for n in args.streams.split(",")} - {1})]
    if args.cores:
        os.sched_setaffinity(0, {int(c) for c in args.cores.split(",")})
    args.threads = args.threads or len(os.sched_getaffinity(0))
    args.cache.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)

    speech = enough(clips(60), args.seconds, args.gap)
    told = conditions(args.seconds, args.gap, args.nice, args.threads)
    found: dict[str, int] = {}
    failed: dict[str, str] = {}
    rows: list[Row] = []
    for name in names:
        print(f"{name}: {CANDIDATES[name].settings}", flush=True)
        try:
            found[name] = ramp(name, steps, speech, rows, args)
            print(f"{name}: {found[name]} streams at SLO\n", flush=True)
        except (RuntimeError, subprocess.CalledProcessError, psutil.NoSuchProcess) as error:
            failed[name] = str(error)
            print(f"{name} is left out: {error}\n", flush=True)
        write(args.out, found, failed, rows, told)
    if failed:
        sys.exit(1)


def ramp(name: str, steps: list[int], speech: list[Clip], rows: list[Row], args: argparse.Namespace) -> int:
    """One server: started, measured step by step into `rows`, stopped. Its streams at SLO."""
    wire = CANDIDATES[name].wire
    with running(CANDIDATES[name], args.cache, args.out / f"{name}.log", args.nice, args.threads) as (url, pid):
        print(f"{name}: {asyncio.run(says(url, wire, speech[0]))!r}\n{HEADER}", flush=True)
        alone: list[Row] = []

        def measure(streams: int, attempt: int) -> Verdict:
            row = asyncio.run(run(name, url, wire, pid, speech, args.gap, streams, attempt))
            if streams == 1:
                alone[:] = [row]
            verdict = judge(row, alone[0])
            row.verdict = str(verdict)
            rows.append(row)
            print(line(row), flush=True)
            return verdict

        if args.every_step:
            return max((n for n in steps if measure(n, 0).met), default=0)
        return climb(steps, measure)


if __name__ == "__main__":
    main()
