"""How long a stream goes without text when a part of the engine dies or hangs: `python -m bench.recovery`.

One stream of speech in real time against `voiceforge serve` with `nano`; in its middle a process is killed (SIGKILL) or
stopped (SIGSTOP). Told: seconds from the fault to the next partial, and whether the finals are those of an undisturbed
stream. Prints a table, writes bench/results/recovery.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from websockets.asyncio.client import connect

from bench.load import CHUNK_S, RATE, Pcm
from bench.speech import clips
from bench.streaming import RESULTS, wait_ready
from export.nano.evaluate import word_errors
from frontend.embedded.layout import free_ports

FAULT_S = 6.0
"""Of stream time."""
PARTS = {
    "tritonserver": "tritonserver",
    "VAD stub": "silero_vad",
    "encoder stub": "nano_encoder",
    "decoder stub": "whisper_nano/",
}
"""What is looked for in a process's name and arguments."""


def process(front: int, part: str) -> psutil.Process:
    """A process of the embedded Triton."""
    below = psutil.Process(front).children(recursive=True)
    if part == "tritonserver":
        return next(p for p in below if p.name() == "tritonserver")
    stubs = [p for p in below if p.name().startswith("triton_python")]
    return next(p for p in stubs if PARTS[part] in " ".join(p.cmdline()))


async def play(url: str, audio: Pcm, fault: tuple[psutil.Process, signal.Signals] | None) -> dict[str, Any]:
    """Streams the audio; returns the text of the finals and the seconds from the fault to the next partial."""
    interims: list[float] = []
    finals: list[str] = []
    struck = float("inf")
    async with connect(url, compression=None, max_size=None) as ws:
        await ws.recv()

        async def read() -> None:
            async for frame in ws:
                message = json.loads(frame)
                if message["type"] == "interim":
                    interims.append(time.perf_counter())
                elif message["type"] == "final":
                    finals.append(message["transcript"])

        reader = asyncio.create_task(read())
        step, start = round(CHUNK_S * RATE), time.perf_counter()
        for i in range(0, len(audio), step):
            await asyncio.sleep(max(0.0, start + min(i + step, len(audio)) / RATE - time.perf_counter()))
            if fault and struck == float("inf") and i >= FAULT_S * RATE:
                struck = time.perf_counter()
                fault[0].send_signal(fault[1])
            await ws.send(audio[i : i + step].tobytes())
        await ws.send('{"type":"close_stream"}')
        async with asyncio.timeout(90):
            await reader
    after = [t - struck for t in interims if t > struck + 0.02]
    return {"text": " ".join(finals), "to_next_partial_s": round(after[0], 2) if after else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=25, help="of speech")
    parser.add_argument("--out", type=Path, default=RESULTS / "recovery.json")
    args = parser.parse_args()
    speech = clips(40)
    parts: list[Pcm] = []
    texts: list[str] = []
    for clip in speech:
        if sum(map(len, parts)) > args.seconds * RATE:
            break
        parts.append(clip.audio)
        texts.append(clip.text)
    audio = np.concatenate([*parts, np.zeros(RATE, np.int16)])
    port = free_ports(1)[0]
    server = subprocess.Popen(
        [sys.executable, "-m", "frontend", "serve", "--model", "nano", "--port", str(port)], env=os.environ
    )
    try:
        wait_ready(server, port)
        url = f"ws://127.0.0.1:{port}/ws/v1/transcribe"
        calm = asyncio.run(play(url, audio, None))["text"]
        rows: list[dict[str, Any]] = []
        print(f"undisturbed: {len(calm.split())} words, WER {word_errors([' '.join(texts)], [calm]).wer:.1f} %")
        print("fault                      next partial after   words that differ")
        for sign in (signal.SIGKILL, signal.SIGSTOP):
            for part in PARTS:
                found = asyncio.run(play(url, audio, (process(server.pid, part), sign)))
                differ = round(word_errors([calm], [found["text"]]).wer * len(calm.split()) / 100)
                fault = f"{part} {'killed' if sign is signal.SIGKILL else 'hangs'}"
                rows.append({"fault": fault, "to_next_partial_s": found["to_next_partial_s"], "words_that_differ": differ})
                print(f"{fault:26} {found['to_next_partial_s'] or float('nan'):15.2f} s {differ:19}", flush=True)
                wait_ready(server, port)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        server.terminate()
        server.wait(40)


if __name__ == "__main__":
    main()
