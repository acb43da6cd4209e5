"""Nothing of the parent is freed in a child before it becomes another program."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest
import uvloop

from frontend.processes import spawn


class Garbage:
    """A cycle whose end is written down, with the process that it ended in."""

    def __init__(self, log: Path) -> None:
        self.log, self.itself = log, self

    def __del__(self) -> None:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")


_due = False


def _collection_is_due() -> None:
    """In the child: whatever allocates next collects, as it may at any time."""
    if _due:
        gc.set_threshold(1)
        assert [[] for _ in range(100)]


os.register_at_fork(after_in_child=_collection_is_due)


async def _spawn_over_garbage(log: Path) -> None:
    global _due
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(0)
    _due = True
    try:
        for _ in range(20):
            Garbage(log)
        process = await spawn("true")
        assert await process.wait() == 0
    finally:
        _due = False
        gc.set_threshold(*thresholds)
        gc.collect()


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_a_child_collects_nothing_before_it_is_another_program(run, tmp_path: Path):
    log = tmp_path / "ended"
    run(_spawn_over_garbage(log))
    assert set(log.read_text().split()) == {str(os.getpid())}
    assert gc.isenabled()


async def test_several_at_once_and_the_collector_goes_on():
    processes = await asyncio.gather(*(spawn("true") for _ in range(5)))
    assert [await p.wait() for p in processes] == [0] * 5
    assert gc.isenabled()
    with pytest.raises(FileNotFoundError):
        await spawn("/no/such/program")
    assert gc.isenabled()
