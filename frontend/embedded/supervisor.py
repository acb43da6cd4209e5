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
from collections.abc import Awaitable, Sequence
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

log = logging.getLogger(__name__)


class Canary(Protocol):
    """Asks every model at an address; raises when one does not answer. Returns what Triton has loaded, by its own names.

    `first`: the server was started just now, and nobody waits for an answer yet.
    """

    def __call__(self, address: str, *, first: bool) -> Awaitable[Sequence[str]]: ...


SUSPECTED_S = 5.0
"""For the canary when a process is missing: a model was unloaded, or the canary will hang on it."""


@dataclass(frozen=True)
class Timing:
    """Seconds. A canary runs every `interval`; `patience` failures in a row restart the server."""

    start: float = 90.0
    stop: float = 8.0
    interval: float = 2.0
    canary: float = 20.0
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
        return next((p.pid for p in _family(self._process) if p.name().startswith("tritonserver")), None)

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
        self._process = await asyncio.create_subprocess_exec(
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
        """A canary; what it found loaded is what a restart loads. Raises when a model does not answer, or has no process."""
        async with asyncio.timeout(timeout_s):
            self._models = await self._canary(self.address, first=first)
        if not self._stubs_alive():
            raise ProcessLookupError("a model's process is gone")

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
        process, self._process = self._process, None
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
                    limit = self._timing.canary if self._stubs_alive() else min(self._timing.canary, SUSPECTED_S)
                    await self._check(limit, first=False)
                    failures, backoff = 0, self._timing.backoff
                    continue
                except Exception as error:
                    failures += 1
                    log.warning("canary failed (%d of %d): %s", failures, self._timing.patience, error)
                    if failures < self._timing.patience and self._stubs_alive():
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
        """Waits one interval; True as soon as the process has ended or one of its stubs is gone."""
        if self._process is None:
            return True
        deadline = time.monotonic() + self._timing.interval
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(1.0):
                    await self._process.wait()
                return True
            except TimeoutError:
                if not self._stubs_alive():
                    return False
        return False

    def _stubs_alive(self) -> bool:
        """False when a Python stub of the server has died: Triton does not restart it and goes on saying ready."""
        if self._process is None:
            return False
        return len(_family(self._process)) >= 1 + sum(instances(self._repository, m) for m in self._models or ())


def _family(launcher: asyncio.subprocess.Process | None) -> list[psutil.Process]:
    """The living processes below the launcher: the server and a stub for each model."""
    if launcher is None:
        return []
    try:
        below = psutil.Process(launcher.pid).children(recursive=True)
        return [p for p in below if p.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def _kill_group(pid: int | None) -> None:
    """Ends what is left of a server's session: the server and its stubs."""
    if pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
