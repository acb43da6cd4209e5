"""Open-loop load: streams paced in real time, de-phased, each with its own sentences, in a process of its own.

Definitions are those of docs/performance.md. The client reports its own lag; a run whose client lagged is void.
"""

from __future__ import annotations

import asyncio

import numpy as np

from frontend.capacity.speech import RATE, Clip, Pcm
from frontend.capacity.stream import CHUNK_S, Measured, stream

__all__ = ["CHUNK_S", "RATE", "Clip", "Measured", "Pcm", "run", "stream"]


async def run(
    url: str, clips: list[Clip], streams: int, per_stream: int, gap_s: float, seed: int = 5, *,
    chunk_s: float = CHUNK_S, spread_s: float = 3,
) -> list[Measured]:  # fmt: skip
    """So many streams at once, each with its own choice of clips, starts spread over `spread_s`."""
    r = np.random.default_rng(seed)
    chosen = [
        [clips[int(k)] for k in r.choice(len(clips), per_stream, replace=per_stream > len(clips))] for _ in range(streams)
    ]
    return await asyncio.gather(
        *(
            stream(url, c, gap_s, float(o), chunk_s=chunk_s)
            for c, o in zip(chosen, r.uniform(0, spread_s, streams), strict=True)
        )
    )
