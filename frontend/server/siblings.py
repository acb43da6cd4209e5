"""The other workers of this server: whoever is asked for metrics answers for all of them, and a session's id says whose it
is."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping

import httpx

from frontend.observability.metrics import Metrics, merged

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
OWN = "/metrics/own"
WORKER_BITS = 6
"""Of a session's id, the last ones: up to 64 workers. What is left of the 122 random bits is enough."""


def session_id(worker: int) -> str:
    """A random UUID that names its worker."""
    return str(uuid.UUID(int=uuid.uuid4().int >> WORKER_BITS << WORKER_BITS | worker))


class Siblings:
    """`own`: where this worker alone can be reached, http://127.0.0.1:PORT; set when it listens."""

    def __init__(self, name: str) -> None:
        self.name, self.own = name, ""
        self._others: dict[str, str] = {}

    def known(self, addresses: Mapping[str, str]) -> None:
        """Every worker's address, by name."""
        self._others = {name: address for name, address in addresses.items() if name != self.name}

    def holder(self, session: str) -> str | None:
        """The address of the worker that a session's id names, unless that is this one."""
        try:
            worker = uuid.UUID(session).int % (1 << WORKER_BITS)
        except ValueError:
            return None
        return self._others.get(str(worker))

    async def metrics(self, mine: Metrics) -> bytes:
        """All workers' samples, each with the label `worker`; one that does not answer is left out."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:

            async def ask(name: str, address: str) -> tuple[str, str] | None:
                try:
                    return name, (await client.get(address + OWN)).raise_for_status().text
                except httpx.HTTPError as error:
                    log.warning("worker %s does not tell its metrics: %s", name, error)
                    return None

            told = await asyncio.gather(*(ask(n, a) for n, a in self._others.items()))
        return merged({self.name: mine.text().decode(), **dict(t for t in told if t)})
