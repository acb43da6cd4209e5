"""What routes that take recordings share: the way to the disk, through the sessions, and the client that hangs up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from frontend.control.load import EngineLoad
from frontend.errors import InvalidAudio, MessageTooBig, NoData
from frontend.protocols.base import StreamOptions
from frontend.server.live import LiveSession
from frontend.server.sessions import Services, open_session
from frontend.speech.events import Event

T = TypeVar("T")
YIELD_S = 0.05
Listener = Callable[[Event], object]


class Arriving:
    """A recording that is being written to a file, up to `limit` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._limit, self._sha256 = file, limit, hashlib.sha256()
        self.size = 0

    def check(self, size: int) -> None:
        """Raises `MessageTooBig` for more bytes than are taken."""
        if size > self._limit:
            raise MessageTooBig(f"the recording is over the limit of {self._limit} bytes; send it in parts")

    def write(self, piece: bytes) -> None:
        """Raises `MessageTooBig`."""
        self.size += len(piece)
        self.check(self.size)
        self._sha256.update(piece)
        self._file.write(piece)

    def finish(self) -> str:
        """Everything is there; returns its SHA-256."""
        self._file.flush()
        return self._sha256.hexdigest()


@asynccontextmanager
async def in_time(limit_s: float) -> AsyncGenerator[None]:
    """Raises `NoData` when the recording takes longer to arrive."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise NoData(f"the recording did not arrive within {limit_s:.0f} s; send or host it faster") from None


async def transcribed(services: Services, options: StreamOptions, path: Path, listener: Callable[[], Listener]) -> int:
    """A recording on disk through a session for each channel; returns the samples of one.

    `listener` is called when a channel's audio begins, for what hears its events. Raises `InvalidAudio` and what decoder
    and sessions raise.
    """
    sessions: list[LiveSession] = []
    async with AsyncExitStack() as running:
        decoded = services.decoders.file(path, options.audio, apart=options.multichannel)
        async for block in await running.enter_async_context(aclosing(decoded)):
            await live_first(services.load)
            while len(sessions) < len(block):
                session = open_session(services, options, listener(), live=False)
                sessions.append(await running.enter_async_context(session))
            for session, samples in zip(sessions, block, strict=True):
                await session.feed(samples)
        if not sessions:
            raise InvalidAudio("it holds no audio; send a recording that is not empty")
        for session in sessions:
            session.close()
        for session in sessions:
            await session.finished.wait()
    return sessions[0].received


async def live_first(load: EngineLoad, patience_s: float = 1.0) -> None:
    """Returns when live speech is served in time, or when patience is over: a recording goes on, if slowly."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while load.behind and loop.time() < deadline:  # noqa: ASYNC110 - lag passes with time, without an event
        await asyncio.sleep(YIELD_S)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; it is cancelled when the client hangs up. Raises `ClientDisconnect` then."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watcher = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
