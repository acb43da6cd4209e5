"""`voiceforge serve --workers N`: front ends in processes of their own, which share the port and one Triton.

The kernel spreads connections over the listeners (`SO_REUSEPORT`); a connection stays with its worker. Parent and worker
speak JSON lines over the worker's stdin and stdout: the worker says once where it listens, the parent tells everybody's
addresses whenever they change, and an end of stdin means that the parent is gone. A worker that dies takes its own
connections with it and is replaced.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from frontend.processes import spawn
from frontend.settings import Settings

log = logging.getLogger(__name__)

START_S = 60.0
SHORT_LIFE_S = 5.0
"""A worker that lives shorter than this has failed to start."""
MOST_FAILURES = 3
"""So many failed starts in a row are a defect that another start does not mend."""
GRACE_S = 10.0


class WorkersFailed(OSError):
    """A worker does not come up."""


class Workers:
    """Use as an async context manager: entering waits until every worker listens, leaving drains them."""

    def __init__(self, settings: Settings, triton: str, models: Sequence[str], flags: Sequence[str] = ()) -> None:
        """`triton`: gRPC address. `flags`: of the worker's command line. Raises `OSError` when the port is taken."""
        self._settings, self._models, self._flags = settings, models, flags
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._held = socket.socket(family, socket.SOCK_STREAM)  # never listens; keeps the port ours, and 0 one port
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _refuse_a_taken_port(settings.host, settings.port, family)
        self._held.bind((settings.host, settings.port))
        self.port: int = self._held.getsockname()[1]
        self._environment = os.environ | {
            "VOICEFORGE_HOST": settings.host,
            "VOICEFORGE_PORT": str(self.port),
            "VOICEFORGE_TRITON": triton,
            "VOICEFORGE_MAX_CONNECTIONS": str(-(-settings.max_connections // settings.workers)),
        }
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._addresses: dict[int, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with `WorkersFailed` when a worker cannot be replaced."""

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self._processes.values()]

    async def __aenter__(self) -> Workers:
        ready = [asyncio.Event() for _ in range(self._settings.workers)]
        self._tasks = [asyncio.create_task(self._keep(i, up), name=f"worker {i}") for i, up in enumerate(ready)]
        all_up = asyncio.gather(*(up.wait() for up in ready))
        try:
            await asyncio.wait({all_up, self.failed}, return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                self.failed.result()
        except BaseException:
            all_up.cancel()
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Workers finish their sessions, for as long as `drain_s`."""
        self._stopping = True
        self.signal(signal.SIGTERM)
        late = (await asyncio.wait(self._tasks, timeout=self._settings.drain_s + GRACE_S))[1]
        if late:
            log.warning("%d workers did not end; they are killed", len(late))
            self.signal(signal.SIGKILL)
            await asyncio.wait(late)
        self._held.close()
        if self.failed.done():
            self.failed.exception()
        else:
            self.failed.cancel()

    async def until_stopped(self) -> None:
        """Until a signal asks for the end, which a second one brings at once. Raises `WorkersFailed`."""
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_signal() -> None:
            if stopped.is_set():
                log.warning("second signal: not waiting any longer")
                self.signal(signal.SIGKILL)
            stopped.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        asked = asyncio.create_task(stopped.wait())
        await asyncio.wait({asked, self.failed}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if self.failed.done():
            self.failed.result()

    def signal(self, number: signal.Signals) -> None:
        """To every worker that runs."""
        for process in self._processes.values():
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(number)

    async def _keep(self, index: int, up: asyncio.Event) -> None:
        """Runs one worker after another in this place."""
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            process = await spawn(
                sys.executable, "-m", "frontend.workers.worker", *self._flags, str(index), *self._models,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is ours to pass on, once
            )  # fmt: skip
            self._processes[index] = process
            if self._stopping:  # it was not there yet when the others were told
                process.terminate()
            assert process.stdout
            with suppress(TimeoutError):
                line = await asyncio.wait_for(process.stdout.readline(), START_S)
                if line:
                    self._addresses[index] = json.loads(line)["address"]
                    await self._tell_everyone()
                    up.set()
            if index not in self._addresses:
                with suppress(ProcessLookupError):
                    process.kill()
            status = await process.wait()
            self._addresses.pop(index, None)
            if self._stopping:
                return
            await self._tell_everyone()
            failures = failures + 1 if time.monotonic() - began < SHORT_LIFE_S or not up.is_set() else 0
            log.error("worker %d ended with %d; another one takes its place", index, status)
            if failures == MOST_FAILURES:
                if not self.failed.done():
                    self.failed.set_exception(WorkersFailed(f"a worker ended {failures} times in a row; see the log above"))
                return

    async def _tell_everyone(self) -> None:
        message = (json.dumps({"workers": self._addresses}) + "\n").encode()
        for index in list(self._addresses):
            stdin = self._processes[index].stdin
            assert stdin
            with suppress(ConnectionError):
                stdin.write(message)
                await stdin.drain()


def _refuse_a_taken_port(host: str, port: int, family: socket.AddressFamily) -> None:
    """`SO_REUSEPORT` would quietly share a port with another server of the same user."""
    if port:
        socket.create_server((host, port), family=family).close()
