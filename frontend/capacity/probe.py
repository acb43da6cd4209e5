"""Reads the metrics of a running server, and what this machine uses meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import httpx
import psutil

from frontend.capacity.errors import CapacityError, MetricsUnreachable, TritonMetricsUnreachable
from frontend.capacity.exposition import Exposition, parse, together
from frontend.capacity.servers import Here, Reading
from frontend.capacity.target import TIMEOUT_S, WHERE_TRITON, Target

OURS, TRITONS = "voiceforge_engine_lag_seconds", "nv_inference_exec_count"
"""By which the two expositions are known."""


class Probe:
    """Both servers' metrics. Use as a context manager."""

    def __init__(self, target: Target) -> None:
        self._target, self._client = target, httpx.Client(timeout=TIMEOUT_S)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self) -> Reading:
        """Raises `MetricsUnreachable`, `TritonMetricsUnreachable`."""
        ours = MetricsUnreachable, "the front end's metrics; is it a VoiceForge? Else give their URL with --metrics"
        front = self._get(self._target.metrics, OURS, *ours)
        tritons = TritonMetricsUnreachable, f"Triton's metrics; {WHERE_TRITON}"
        found = {url: self._get(url, TRITONS, *tritons) for url in self._target.tritons}
        return Reading(front, together(found), here(local=self._target.local))

    async def during(self, work: asyncio.Future[Any], every_s: float = 1.0) -> list[Reading]:
        """Readings until the work is done, and one after it, which must not fail. Raises what `read` does.

        In a thread: reading must not keep streams from their time. One that fails meanwhile is left out, as Triton may just
        be starting again.
        """
        readings: list[Reading] = []
        while not work.done():
            await asyncio.wait({work}, timeout=every_s)
            with contextlib.suppress(CapacityError):
                readings.append(await asyncio.to_thread(self.read))
        return [*readings, await asyncio.to_thread(self.read)]

    def _get(self, url: str, known_by: str, unreachable: type[CapacityError], about: str) -> Exposition:
        try:
            text = self._client.get(url).raise_for_status().text
            found = parse(text, time.perf_counter())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(f"{url} does not answer ({error}); it should be {about}") from None
        except ValueError:
            raise unreachable(f"{url} tells something else than metrics; it should be {about}") from None
        if known_by not in found:
            raise unreachable(f"{url} has no {known_by}; it should be {about}")
        return found


def here(*, local: bool) -> Here:
    if not local:
        return Here(time.process_time())
    times: Any = psutil.cpu_times()
    used = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    memory = psutil.virtual_memory()
    return Here(time.process_time(), used, psutil.cpu_count(), round(1 - memory.available / memory.total, 3))
