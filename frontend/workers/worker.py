"""One of several front ends: `python -m frontend.workers.worker [--json-logs] [--verbose] INDEX MODEL…`; see `pool`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from frontend.app import serving
from frontend.observability import logs
from frontend.processes import settle
from frontend.server.siblings import Siblings
from frontend.settings import Settings


async def work(index: int, models: list[str]) -> None:
    siblings = Siblings(str(index))
    async with serving(Settings(), models, siblings) as running:
        sys.stdout.write(json.dumps({"address": siblings.own}) + "\n")
        sys.stdout.flush()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

        async def listen() -> None:
            while line := await reader.readline():
                siblings.known(json.loads(line)["workers"])
            running.stopped.set()  # the parent is gone

        listening = asyncio.create_task(listen(), name="parent")
        settle()
        await running.stopped.wait()
        listening.cancel()


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=int)
    parser.add_argument("--json-logs", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    logs.configure(json_lines=args.json_logs, verbose=args.verbose)
    uvloop.run(work(args.index, args.models))


if __name__ == "__main__":
    main()
