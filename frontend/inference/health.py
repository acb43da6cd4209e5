"""Whether the engine answers: a canary inference, remembered for a moment."""

from __future__ import annotations

import asyncio
import time

from frontend.inference.base import Engine

FRESH_S = 2.0
TIMEOUT_S = 5.0


class Health:
    """`check` runs a canary unless one went through less than `FRESH_S` ago; callers at once share one canary."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._last_success = float("-inf")
        self.problem = "no canary has gone through yet"

    async def check(self) -> bool:
        async with self._lock:
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
