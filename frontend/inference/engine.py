"""`Engine` over one Triton or several. A session's sequences stay where they were opened, until that server goes away."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from frontend.errors import EngineRejected, EngineUnavailable, UnknownModel
from frontend.inference.models import ModelInfo
from frontend.inference.streams import TritonAsrStream, TritonVadStream
from frontend.inference.triton import ASR_PREFIX, Patience, TritonServer

log = logging.getLogger(__name__)
T = TypeVar("T")


class TritonEngine:
    """Implements `Engine`. New sequences go to the server that holds the fewest; when one goes away, its sequences are
    opened at others with the audio that they need, and nothing is lost."""

    def __init__(self, *addresses: str, patience: Patience | None = None) -> None:
        self.patience = patience = patience or Patience()
        self.servers = [TritonServer(address, patience) for address in addresses]
        self._turn = itertools.count()

    def pick(self, model: str) -> TritonServer:
        """The server for a new sequence: of those that live and have the model, the one with the fewest."""
        turn = next(self._turn)  # of equals each in turn
        order = [self.servers[(turn + i) % len(self.servers)] for i in range(len(self.servers))]
        return min(order, key=lambda s: (s.away, not s.serves(model), s.held))

    def vad_stream(self) -> TritonVadStream:
        return TritonVadStream(self)

    def asr_stream(self, model: str, language: str, *, task: str = "transcribe", alternatives: int = 0) -> TritonAsrStream:
        info = self.model(model)
        info.check_task(task)
        return TritonAsrStream(self, f"{ASR_PREFIX}{model}", info.language(language), task, alternatives)

    # --- models ---------------------------------------------------------------------------------------------------

    def model(self, name: str) -> ModelInfo:
        """Raises `UnknownModel` when no server has it loaded."""
        problem = UnknownModel(f"model {name!r} is not loaded")
        for server in self.servers:
            try:
                return server.model(name)
            except UnknownModel as error:
                problem = error
        raise problem

    async def models(self) -> list[ModelInfo]:
        """What any server has loaded. Raises `EngineUnavailable` when none answers."""
        found = await self._of_any(lambda server: server.models())
        return list({info.name: info for infos in found for info in infos}.values())

    async def repository(self) -> dict[str, bool]:
        """The models of the servers' repositories by name, and whether each is loaded somewhere."""
        found = await self._of_any(lambda server: server.repository())
        names = sorted({name for models in found for name in models})
        return {name: any(models.get(name, False) for models in found) for name in names}

    async def load(self, model: str, progress: Callable[[str], None] = lambda _: None) -> ModelInfo:
        """Has every server load it, one after the other."""
        infos = [await server.load(model, progress) for server in self.servers]
        return infos[0]

    async def unload(self, model: str, progress: Callable[[str], None] = lambda _: None) -> None:
        """Has every server that has it unload it. Raises `UnknownModel` when none has."""
        self.model(model)
        for server in self.servers:
            if server.serves(f"{ASR_PREFIX}{model}"):
                await server.unload(model, progress)

    # --- life -----------------------------------------------------------------------------------------------------

    async def canary(self) -> None:
        """At least one server answers."""
        await self._of_any(lambda server: server.canary())

    async def watch(self) -> None:
        """For ever: keeps what is known of the models fresh, and of the servers, where there are others to go to."""
        async with asyncio.TaskGroup() as tasks:
            for server in self.servers:
                tasks.create_task(server.watch())
                if len(self.servers) > 1:
                    tasks.create_task(server.watch_over())

    async def close(self) -> None:
        for server in self.servers:
            await server.close()

    async def _of_any(self, ask: Callable[[TritonServer], Awaitable[T]]) -> Sequence[T]:
        """The answers of the servers that answer. Raises the first one's error when none does."""
        answers = await asyncio.gather(*(ask(server) for server in self.servers), return_exceptions=True)
        good: list[T] = []
        failed: list[EngineUnavailable | EngineRejected] = []
        for answer in answers:
            if isinstance(answer, EngineUnavailable | EngineRejected):
                failed.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                good.append(answer)
        if not good:
            raise failed[0]
        return good
