"""Disk and memory of models by precision: `python -m bench.footprint`.

Exports each model, serves it alone with the embedded Triton, and reads the memory of its own (`uss`) of the model's two
processes, just loaded and after a window of 11 s was decoded. tiny and base have the shapes of OpenAI's and made-up weights
(`bench/gpu/checkpoint.py`). Prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import numpy as np
import psutil

from bench.gpu.checkpoint import SHAPES, Shape, write
from bench.speech import clips
from export.repository import IN_THE_BOX, export_silero, export_whisper
from frontend.app import canary
from frontend.embedded import EmbeddedTriton
from frontend.inference.engine import TritonEngine
from frontend.speech.events import Decode, RunAsr

SECONDS, RATE = 11, 16_000
TINY = Shape(384, (4, 4), 6, 51_864, ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)))  # openai/whisper-tiny.en
MADE_UP = {"tiny": TINY, "base": SHAPES["base"]}


def memory(name: str) -> float:
    """MB of the processes of `whisper_<name>` and its encoder, below this one."""
    stubs = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("triton_python")]
    return sum(p.memory_full_info().uss for p in stubs if f"whisper_{name}" in " ".join(p.cmdline())) / 1e6


def exported(checkpoint: Path, name: str, precision: str, repository: Path) -> float:
    """MB on disk."""
    export_silero(repository)
    export_whisper(str(checkpoint), repository, name=name, precision=precision)
    return sum(p.stat().st_size for p in repository.glob(f"whisper_{name}*/**/*") if p.is_file()) / 1e6


async def served(repository: Path, name: str) -> tuple[float, float]:
    """MB just loaded, and in use."""
    audio = clips(1)[0].audio
    audio = np.tile(audio, -(-SECONDS * RATE // len(audio)))[: SECONDS * RATE]
    server = EmbeddedTriton(repository, canary)
    await server.start()
    engine = TritonEngine(server.address)
    try:
        loaded = memory(name)
        await engine.models()
        stream = engine.asr_stream(name, "en")
        await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)
        return loaded, memory(name)
    finally:
        await engine.close()
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[*IN_THE_BOX, *MADE_UP], choices=[*IN_THE_BOX, *MADE_UP])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    args = parser.parse_args()
    print("| model | precision | on disk | just loaded | in use |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            checkpoint = IN_THE_BOX.get(name) or Path(folder) / name
            if name in MADE_UP:
                write(checkpoint, MADE_UP[name], 24)
            for precision in args.precisions:
                repository = Path(folder) / f"{name}-{precision}"
                found = exported(checkpoint, name, precision, repository), *asyncio.run(served(repository, name))
                print(f"| {name} | {precision} | {' | '.join(f'{mb:.0f} MB' for mb in found)} |", flush=True)


if __name__ == "__main__":
    main()
