"""The composition root: builds everything from the settings, starts it, stops it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from frontend.control.auth import Authenticator
from frontend.embedded import EmbeddedTriton
from frontend.inference.engine import TritonEngine
from frontend.inference.health import Health
from frontend.inference.models import ModelInfo
from frontend.inference.triton import Patience, TritonServer, triton_names
from frontend.observability.metrics import Metrics
from frontend.protocols.deepgram.live import DeepgramAdapter
from frontend.protocols.native import NativeAdapter
from frontend.protocols.openai.realtime import RealtimeAdapter
from frontend.server.gateway import Gateway
from frontend.server.http import application
from frontend.server.recordings import Recordings
from frontend.server.sessions import Services
from frontend.server.siblings import Siblings
from frontend.server.transcriptions import Transcriptions
from frontend.settings import Settings

log = logging.getLogger(__name__)


@dataclass
class Running:
    """A started server: where it listens, and what tests want to look at."""

    url: str
    services: Services
    gateway: Gateway
    triton: EmbeddedTriton | None
    models: Sequence[ModelInfo]
    """Loaded at the start."""
    stopped: asyncio.Event
    """Set when a signal asks for the end; leaving the context drains."""


async def canary(address: str, *, first: bool, asking: Callable[[str], None] = lambda _: None) -> Sequence[str]:
    """A canary through a server on a connection of its own, as the supervisor needs it before anyone else connects.

    The first one after a start has every model decode. Returns what Triton has loaded, by its own names.
    """
    engine = TritonServer(address, Patience(call=60.0, outage=0.0))  # the supervisor has a limit of its own
    try:
        await engine.canary(asking)
        await (engine.try_out() if first else engine.canary_encoders(asking))
        asking("")
        return await engine.loaded()
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
async def embedded_triton(settings: Settings, models: Sequence[str]) -> AsyncGenerator[EmbeddedTriton]:
    """The one that the settings do not name. Raises `TritonStartError`."""
    triton = EmbeddedTriton(settings.model_repository.resolve(), canary, models=triton_names(models))
    await triton.start()
    try:
        yield triton
    finally:
        await triton.stop()


@asynccontextmanager
async def serving(settings: Settings, models: Sequence[str], siblings: Siblings | None = None) -> AsyncGenerator[Running]:
    """Starts Triton (unless it is external) and the front end; leaving the context drains, then stops both.

    `models`: what an embedded Triton loads at first; the first is the default of sessions that name none. An external
    one has loaded what it has; without `models` its first one is the default. `siblings`: the server is one of several
    workers on the port.
    Raises `TritonStartError` when the embedded Triton will not start, `EngineUnavailable` when an external one does
    not answer, `OSError` when the port is taken.
    """
    metrics = Metrics()
    async with AsyncExitStack() as held:
        triton: EmbeddedTriton | None = None
        if settings.triton is None:
            triton = await held.enter_async_context(embedded_triton(settings, models))
            metrics.engine_restarts.set_function(lambda: triton.restarts)
        engine = TritonEngine(*([triton.address] if triton else settings.tritons))
        held.push_async_callback(engine.close)
        infos = await engine.models()
        found = [info.name for info in infos]
        if absent := [name for name in models if name not in found]:
            raise ValueError(f"Triton has no model {', '.join(absent)}; it has {', '.join(found) or 'none'}")
        if not found:
            raise ValueError("Triton has no model loaded; export one into its repository and load it")
        watch = asyncio.create_task(engine.watch(), name="models")
        held.callback(watch.cancel)
        default = next(iter(models), found[0])
        services = Services(engine, metrics, settings, default)
        metrics.engine_lag.set_function(services.load.lag)
        metrics.partial_places.set_function(lambda: int(services.load.partials.limit))
        metrics.partial_wait.set_function(services.load.partials.wait)
        held.push_async_callback(services.decoders.close)
        await services.decoders.start()  # loading FFmpeg takes a while, which no stream shall wait for
        adapters = [NativeAdapter(), DeepgramAdapter(resume=settings.resume_deepgram), RealtimeAdapter()]
        gateway = Gateway(services, Authenticator(settings.keys), adapters, siblings)
        async with listening(settings, services, gateway, triton, infos, siblings) as running:
            yield running


@asynccontextmanager
async def listening(
    settings: Settings,
    services: Services,
    gateway: Gateway,
    triton: EmbeddedTriton | None,
    models: Sequence[ModelInfo] = (),
    siblings: Siblings | None = None,
) -> AsyncGenerator[Running]:
    """The front end over whatever engine the services have; leaving the context drains."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    health = Health(services.engine, (lambda: triton.healthy) if triton else (lambda: True))
    routes = [*Recordings(services, gateway).routes(), *Transcriptions(services, gateway).routes()]
    config = uvicorn.Config(
        application(health, services.metrics, gateway, routes, siblings),
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
        (settings.host, settings.port),
        family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
        backlog=1024,
        reuse_port=siblings is not None,
    )
    listeners = [listener]
    if siblings:
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        siblings.own = f"http://127.0.0.1:{listeners[1].getsockname()[1]}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    serve = asyncio.create_task(server.serve(sockets=listeners), name="uvicorn")
    try:
        while not server.started and not serve.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield Running(url, services, gateway, triton, models, stopped)
    finally:
        await gateway.drain(settings.drain_s)
        server.should_exit = True
        await serve
