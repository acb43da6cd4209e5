"""One of several front ends: `python -m frontend.workers.worker [--json-logs] [--verbose] INDEX MODEL…`; see `pool`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from contextlib import suppress

from frontend.app import serving
from frontend.errors import VoiceForgeError
from frontend.observability import logs
from frontend.processes import settle
from frontend.server.siblings import Siblings
from frontend.settings import Settings

log = logging.getLogger(__name__)


async def work(index: int, models: list[str]) -> None:
    siblings = Siblings(str(index))
    async with serving(Settings(), models, siblings) as running:
        with suppress(BrokenPipeError):  # the end of stdin says the same
            os.write(sys.stdout.fileno(), (json.dumps({"address": siblings.own}) + "\n").encode())
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
    try:
        uvloop.run(work(args.index, args.models))
    except (VoiceForgeError, ValueError, OSError) as error:  # Triton is gone, or has not what the parent has seen
        log.error("worker %d does not start: %s", args.index, error)
        sys.exit(1)


if __name__ == "__main__":
    main()
