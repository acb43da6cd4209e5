"""Child processes of an event loop that has gRPC in it, and the garbage collection of a process that serves."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

_spawning = 0


async def spawn(*command: str, **options: Any) -> asyncio.subprocess.Process:
    """`asyncio.create_subprocess_exec`, but nothing is collected between fork and exec.

    uvloop forks and runs Python's after-fork code in the child. A collection there frees calls of gRPC, which waits for a
    lock of a thread that the child does not have: it spins for ever, and the parent waits for its exec.
    """
    global _spawning
    was_enabled = gc.isenabled() or _spawning > 0
    gc.disable()
    _spawning += 1
    try:
        return await asyncio.create_subprocess_exec(*command, **options)
    finally:
        _spawning -= 1
        if was_enabled and _spawning == 0:
            gc.enable()


def settle() -> None:
    """Before a process begins to serve: what there is stays and is not looked at again, and what streams leave behind,
    little of it in cycles, is looked at less often. It was 5 % of a busy front end's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
