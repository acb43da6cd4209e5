"""Whether the engine answers: a canary inference, remembered for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from frontend.inference.base import Engine

FRESH_S = 2.0
TIMEOUT_S = 5.0


class Health:
    """`check` runs a canary unless one went through less than `FRESH_S` ago; callers at once share one canary."""

    def __init__(self, engine: Engine, alive: Callable[[], bool] = lambda: True) -> None:
        """`alive` is what is known without asking: False while a supervisor has the server down."""
        self._engine, self._alive = engine, alive
        self._lock = asyncio.Lock()
        self._last_success = float("-inf")
        self.problem = "no canary has gone through yet"

    async def check(self) -> bool:
        async with self._lock:
            if not self._alive():
                self._last_success, self.problem = float("-inf"), "Triton is being started again"
                return False
            if time.monotonic() - self._last_success < FRESH_S:
                return True
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._engine.canary()
            except Exception as error:
                self._last_success, self.problem = float("-inf"), str(error) or type(error).__name__
                return False
            self._last_success, self.problem = time.monotonic(), ""
            return True
