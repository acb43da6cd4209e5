"""What waits in Triton for a busy model costs nothing."""

from __future__ import annotations

import asyncio

import numpy as np
import psutil

from frontend.embedded.supervisor import Timing
from frontend.inference.triton import Patience
from frontend.speech.events import Decode, RunAsr


async def test_requests_that_wait_for_a_busy_model_keep_no_core_busy(start, connect, spoken):
    """Requests that differ in length, prefix, context or urgency once had Triton's batcher thread spin."""
    server = await start(timing=Timing(interval=3600))
    engine = connect(server, Patience(call=60))
    await engine.models()
    streams = [engine.asr_stream("nano", "en") for _ in range(48)]
    heard = await streams[0].decode(RunAsr(Decode.FINAL, 1, 0, len(spoken[0])), spoken[0])
    seconds = np.concatenate(spoken * 12)[: 12 * 16_000]

    async def ask(n: int) -> None:
        await asyncio.sleep(0.02 * n)  # one after the other, so that each finds the model at work on those before
        audio = seconds[: (6 + n % 6) * 16_000]
        prefix, context = heard.tokens[:2] if n % 2 else (), heard.tokens if n % 3 else ()
        request = RunAsr(Decode.PARTIAL if n % 4 else Decode.FINAL, 2, 0, len(audio), prefix, context)
        assert (await streams[n].decode(request, audio)).text

    triton = psutil.Process(server.pid)
    used, began = sum(triton.cpu_times()[:2]), asyncio.get_running_loop().time()
    await asyncio.gather(*(ask(n) for n in range(len(streams))))
    used, took = sum(triton.cpu_times()[:2]) - used, asyncio.get_running_loop().time() - began
    assert took > 1, "too quick to tell: ask for more"
    assert used / took < 0.15, f"{used / took:.2f} cores of the server's own, the models' not counted"
    for stream in streams:
        await stream.close()
