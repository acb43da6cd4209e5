"""The composition root: builds everything from the settings, starts it, stops it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from export import manifest
from frontend.control.auth import Authenticator
from frontend.embedded import EmbeddedTriton
from frontend.inference.health import Health
from frontend.inference.triton import Patience, TritonEngine
from frontend.observability.metrics import Metrics
from frontend.protocols.deepgram.live import DeepgramAdapter
from frontend.protocols.native import NativeAdapter
from frontend.server.gateway import Gateway
from frontend.server.http import application
from frontend.server.recordings import Recordings
from frontend.server.sessions import Services
from frontend.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_WINDOW_S = 30


@dataclass
class Running:
    """A started server: where it listens, and what tests want to look at."""

    url: str
    services: Services
    gateway: Gateway
    triton: EmbeddedTriton | None
    stopped: asyncio.Event
    """Set when a signal asks for the end; leaving the context drains."""


def windows(repository: Path) -> Callable[[str], int]:
    """Longest window of each exported model in seconds, by the repository's manifest; 30 for one it does not know."""
    models = manifest.read(repository)["models"] if repository.is_dir() else {}
    longest = {name: max(entry["windows_s"]) for name, entry in models.items() if "windows_s" in entry}
    return lambda model: longest.get(model, DEFAULT_WINDOW_S)


async def canary(address: str) -> None:
    """A canary through a server on a connection of its own, as the supervisor needs it before anyone else connects."""
    engine = TritonEngine(address, Patience(call=5.0, outage=0.0))
    try:
        await engine.canary()
    finally:
        await engine.close()


class _Server(uvicorn.Server):
    """uvicorn, with our drain before its own shutdown."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_signal, self._signals = on_signal, 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            log.warning("second %s: not waiting any longer", signal.Signals(sig).name)
            self.should_exit = self.force_exit = True
        else:
            self._on_signal()


@asynccontextmanager
async def serving(settings: Settings, default_model: str) -> AsyncGenerator[Running]:
    """Starts Triton (unless it is external) and the front end; leaving the context drains, then stops both.

    Raises `TritonStartError` when the embedded Triton will not start, `EngineUnavailable` when an external one does
    not answer, `OSError` when the port is taken.
    """
    metrics = Metrics()
    triton: EmbeddedTriton | None = None
    if settings.triton is None:
        triton = EmbeddedTriton(settings.model_repository.resolve(), canary)
        await triton.start()
        metrics.engine_restarts.set_function(lambda: triton.restarts)
    engine = TritonEngine(triton.address if triton else settings.triton or "")
    try:
        found = await engine.models()
        if default_model not in found:
            raise ValueError(f"Triton has no model whisper_{default_model}; it has {', '.join(found) or 'none'}")
        services = Services(engine, metrics, settings, default_model, windows(settings.model_repository), frozenset(found))
        gateway = Gateway(services, Authenticator(settings.keys), [NativeAdapter(), DeepgramAdapter()])
        async with listening(settings, services, gateway, triton) as running:
            yield running
    finally:
        await engine.close()
        if triton:
            await triton.stop()


@asynccontextmanager
async def listening(
    settings: Settings, services: Services, gateway: Gateway, triton: EmbeddedTriton | None
) -> AsyncGenerator[Running]:
    """The front end over whatever engine the services have; leaving the context drains."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    health = Health(services.engine, (lambda: triton.healthy) if triton else (lambda: True))
    config = uvicorn.Config(
        application(health, services.metrics, gateway, Recordings(services, gateway).routes()),
        ws=gateway.protocol_class(),  # type: ignore[arg-type]
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, lambda: loop.call_soon_threadsafe(stopped.set))
    listener = socket.create_server(
        (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET, backlog=1024
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    serve = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        while not server.started and not serve.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield Running(url, services, gateway, triton, stopped)
    finally:
        await gateway.drain(settings.drain_s)
        server.should_exit = True
        await serve
