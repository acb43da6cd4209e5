"""Starts the embedded Triton, waits until it answers a canary inference, and starts it again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from frontend.embedded.layout import (
    SHM_PREFIX,
    TritonStartError,
    announce,
    clean_shared_memory,
    environment,
    find_wheel,
    free_ports,
    instances,
    models_in,
    prepare_backends,
)
from frontend.processes import spawn

log = logging.getLogger(__name__)


class Canary(Protocol):
    """Asks every model at an address; raises when one does not answer. Returns what Triton has loaded, by its own names.

    `first`: the server was started just now, and nobody waits for an answer yet. `asking` is told of each model before
    it is asked.
    """

    def __call__(self, address: str, *, first: bool, asking: Callable[[str], None]) -> Awaitable[Sequence[str]]: ...


class Hangs(Exception):
    """A process that was asked neither answers nor works."""


DEAD_S = 0.3
"""For an answer of a model whose process is gone: it may have been unloaded just now."""
NOT_HEALTHY = "is not healthy"
"""What Triton answers once it has given a stub up."""
IDLE_CPU_S = 0.025
"""A process that uses less CPU while it is asked does nothing: idle stubs wake up a few times a second."""


@dataclass(frozen=True)
class Timing:
    """Seconds. A canary runs every `interval`; `patience` failures in a row restart the server, and at once a process that
    does not work for `still` while the canary waits for it: one that is only busy does."""

    start: float = 90.0
    stop: float = 8.0
    interval: float = 1.0
    canary: float = 20.0
    still: float = 2.0
    patience: int = 2
    backoff: float = 0.5
    longest_backoff: float = 15.0


class EmbeddedTriton:
    """One server process over one model repository, on 127.0.0.1.

    `address` (gRPC) stays the same over restarts, so clients only reconnect. `restarts` counts them. Models come and go
    through Triton's model control; a restart loads those that the last canary found.
    """

    def __init__(
        self, repository: Path, canary: Canary, *, models: Sequence[str] | None = None,
        ports: tuple[int, int, int] | None = None, timing: Timing = Timing(),
    ) -> None:  # fmt: skip
        """`models` are Triton's names of those to load at first; None: all that the repository holds."""
        self._repository, self._canary, self._timing = repository, canary, timing
        self._models = models
        self._announcement: Path | None = None
        self._fixed_ports = ports is not None
        self._ports = ports or (0, 0, 0)
        self._output: deque[str] = deque(maxlen=400)
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None
        self._family: list[psutil.Process] = []
        """The server and a stub for each model, as the last check found them."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._healthy = asyncio.Event()
        self.restarts = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[2]}/metrics"

    @property
    def pid(self) -> int | None:
        """Of tritonserver itself."""
        return next((p.pid for p in _below(self._process) if p.name().startswith("tritonserver")), None)

    @property
    def healthy(self) -> bool:
        return self._healthy.is_set()

    @property
    def output(self) -> list[str]:
        """The last lines that the server printed."""
        return list(self._output)

    async def start(self) -> None:
        """Starts the server and returns when a canary has gone through every model.

        Raises `TritonStartError` with what Triton printed when it ends or does not get ready in time.
        """
        clean_shared_memory()
        self._folder = tempfile.TemporaryDirectory(prefix="voiceforge-triton-")
        self._wheel = find_wheel()
        self._backends = prepare_backends(self._wheel, Path(self._folder.name))
        if not self._fixed_ports:
            http, grpc, metrics = free_ports(3)
            self._ports = (http, grpc, metrics)
        try:
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._announcement = announce(self._repository, self.address)
        self._watch = asyncio.create_task(self._supervise(), name="triton-supervisor")

    async def stop(self) -> None:
        if self._announcement:
            self._announcement.unlink(missing_ok=True)
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._end_process()
        if self._folder:
            self._folder.cleanup()

    def _command(self) -> list[str]:
        http, grpc, metrics = self._ports
        local = "127.0.0.1"
        there = models_in(self._repository)
        models = there if self._models is None else [m for m in self._models if m in there]
        return [
            sys.executable, str(Path(__file__).with_name("launch.py")), str(os.getpid()), str(self._wheel.server),
            f"--model-repository={self._repository}", f"--backend-directory={self._backends}",
            "--model-control-mode=explicit", *(f"--load-model={m}" for m in models),
            f"--http-address={local}", f"--http-port={http}", "--http-thread-count=1",
            f"--grpc-address={local}", f"--grpc-port={grpc}", "--grpc-infer-allocation-pool-size=64",
            f"--metrics-address={local}", f"--metrics-port={metrics}", "--metrics-config=summary_latencies=true",
            "--disable-auto-complete-config", "--model-load-thread-count=1", "--pinned-memory-pool-byte-size=0",
            "--exit-timeout-secs=5", "--log-verbose=0", "--allow-gpu-metrics=false", "--allow-cpu-metrics=false",
            "--backend-config=python,thread-pool-size=4",
            f"--backend-config=python,shm-region-prefix-name={SHM_PREFIX}{os.getpid()}_{id(self):x}_",
        ]  # fmt: skip

    async def _launch(self) -> None:
        self._output.clear()
        self._process = await spawn(
            *self._command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(self._wheel),
            start_new_session=True,  # a Ctrl-C at the terminal reaches the front end, which drains first
        )
        self._readers = [asyncio.create_task(self._read(self._process), name="triton-output")]
        deadline = time.monotonic() + self._timing.start
        while True:
            if self._process.returncode is not None:
                await asyncio.gather(*self._readers)
                raise TritonStartError(f"tritonserver ended with status {self._process.returncode}:\n{self._reason()}")
            try:
                await self._check(self._timing.start, first=True)
                break
            except Exception as error:
                if time.monotonic() > deadline:
                    raise TritonStartError(
                        f"tritonserver was not ready in {self._timing.start:.0f} s ({error}):\n{self._reason()}"
                    ) from error
                await asyncio.sleep(0.1)
        self._healthy.set()

    async def _check(self, timeout_s: float, *, first: bool) -> None:
        """A canary; what it found loaded is what a restart loads. Raises when a model does not answer, or has no process;
        `Hangs` when it is clear that it never will."""
        asked = [""]
        canary = asyncio.ensure_future(self._canary(self.address, first=first, asking=asked.append))
        try:
            async with asyncio.timeout(timeout_s):
                if not first:
                    await self._answered(canary, asked)
                self._models = await canary
        finally:
            canary.cancel()
        self._family = _below(self._process)
        if len(self._family) < 1 + sum(instances(self._repository, m) for m in self._models):
            raise ProcessLookupError("a model's process is gone")

    async def _answered(self, canary: asyncio.Future[Sequence[str]], asked: Sequence[str]) -> None:
        """Returns when the canary is through. Raises `Hangs`."""
        while not canary.done():
            n, name, began = len(asked), asked[-1], time.monotonic()
            processes = [p for p in self._family if not name or _serves(p, name)]
            before, limit = _cpu_seconds(processes), self._timing.still if processes else DEAD_S
            while len(asked) == n and not canary.done() and time.monotonic() < began + limit:
                await asyncio.wait({canary}, timeout=0.1)
            if len(asked) == n and not canary.done() and _cpu_seconds(processes) - before < IDLE_CPU_S:
                raise Hangs(f"{name or 'tritonserver'} {'does nothing' if processes else 'is gone'} but is asked")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self._output.append(text)
            log.debug("triton: %s", text)

    def _reason(self) -> str:
        """What matters of the output: error lines and tracebacks, else its end."""
        lines = list(self._output)
        telling = [s for s in lines if re.match(r"E\d{4} ", s) or "error" in s.lower() or "Traceback" in s]
        return "\n".join((telling or lines)[-20:]) or "(it printed nothing)"

    async def _end_process(self) -> None:
        process, self._process, self._family = self._process, None, []
        self._healthy.clear()
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(self._timing.stop):
                    await process.wait()
            except TimeoutError:
                log.warning("tritonserver did not stop in %.0f s; killing it", self._timing.stop)
                process.kill()
                await process.wait()
        _kill_group(process.pid)
        await asyncio.gather(*self._readers, return_exceptions=True)
        clean_shared_memory(os.getpid())

    async def _supervise(self) -> None:
        failures, backoff = 0, self._timing.backoff
        while True:
            died = await self._wait_for_trouble()
            if not died:
                try:
                    await self._check(self._timing.canary, first=False)
                    failures, backoff = 0, self._timing.backoff
                    continue
                except Exception as error:
                    failures += 1
                    log.warning("canary failed (%d of %d): %s", failures, self._timing.patience, error)
                    hopeless = isinstance(error, Hangs) or NOT_HEALTHY in str(error) or not self._alive()
                    if failures < self._timing.patience and not hopeless:
                        continue
            log.error("tritonserver is %s; starting it again", "gone" if died else "not answering")
            if died:
                log.error("%s", self._reason())
            failures = 0
            if not died:
                _kill_group(
                    self._process.pid if self._process else None
                )  # a server with a dead stub does not stop when asked
            await self._end_process()
            try:
                await self._launch()
                self.restarts += 1
                log.info("tritonserver is back (restart %d)", self.restarts)
            except TritonStartError as error:
                log.error("%s; next try in %.1f s", error, backoff)
                await self._end_process()
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, self._timing.longest_backoff)

    async def _wait_for_trouble(self) -> bool:
        """Waits one interval; True as soon as the server has ended, False as soon as one of its stubs is gone."""
        if self._process is None:
            return True
        deadline = time.monotonic() + self._timing.interval
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(0.25):
                    await self._process.wait()
                return True
            except TimeoutError:
                if not self._alive():
                    return False
        return False

    def _alive(self) -> bool:
        """False when a process of the last check has gone: Triton does not restart a stub and goes on saying ready."""
        return all(map(_lives, self._family))


def _below(launcher: asyncio.subprocess.Process | None) -> list[psutil.Process]:
    """The living processes below the launcher: the server and a stub for each model."""
    if launcher is None:
        return []
    try:
        return [p for p in psutil.Process(launcher.pid).children(recursive=True) if _lives(p)]
    except psutil.NoSuchProcess:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _serves(stub: psutil.Process, model: str) -> bool:
    """Whether a stub is that of a model, or of its encoder, which it waits for."""
    try:
        command = stub.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return len(command) > 1 and Path(command[1]).parent.parent.name.startswith(model)


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def _kill_group(pid: int | None) -> None:
    """Ends what is left of a server's session: the server and its stubs."""
    if pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
