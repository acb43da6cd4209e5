"""The servers that are compared: how each is started, with what, and what of it is switched off."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.streams import wires
from bench.streams.environments import WHISPER_LIVE, WHISPER_LIVE_KIT, ctranslate2_model, model_repository
from frontend.embedded.layout import free_ports

READY_S = 180.0


@dataclass(frozen=True)
class Start:
    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Candidate:
    wire: type[wires.Wire]
    settings: str
    """For the report."""
    start: Callable[[Path, int, int], Start]
    """From the cache folder, a port, and how many threads a decode of the others takes. Sets up what is needed on first
    use."""


def _ours(cache: Path, port: int, threads: int) -> Start:
    environment = {"VOICEFORGE_MODEL_REPOSITORY": str(model_repository(cache)), "VOICEFORGE_MAX_CONNECTIONS": "1000"}
    return Start([sys.executable, "-m", "frontend", "serve", "--model", "nano", "--port", str(port)], environment)


def _peer(command: list[str], threads: int) -> Start:
    """CTranslate2 takes four threads unless told otherwise, and they spin while they wait for each other: with other work
    on two cores, WhisperLive's decodes took three times as long as without. Nothing may be fetched."""
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    return Start(command, environment)


def _whisper_live(*options: str) -> Callable[[Path, int, int], Start]:
    def start(cache: Path, port: int, threads: int) -> Start:
        script = Path(__file__).with_name("whisper_live_server.py")
        python = WHISPER_LIVE.python(cache)
        return _peer([str(python), str(script), str(ctranslate2_model(cache)), "--port", str(port), *options], threads)

    return start


def _whisper_live_kit(cache: Path, port: int, threads: int) -> Start:
    options = {
        "--port": str(port),
        "--model_dir": str(ctranslate2_model(cache)),
        "--backend": "faster-whisper",
        "--backend-policy": "localagreement",
        "--language": "en",
        "--warmup-file": "",
        "--log-level": "WARNING",
    }
    pairs = [word for pair in options.items() for word in pair]
    python = str(WHISPER_LIVE_KIT.python(cache))
    return _peer([python, "-m", "whisperlivekit.basic_server", "--host", "127.0.0.1", "--pcm-input", *pairs], threads)


def _loop(cache: Path, port: int, threads: int) -> Start:
    module = [sys.executable, "-m", "bench.streams.loop_server", str(ctranslate2_model(cache))]
    workers = max(1, len(os.sched_getaffinity(0)) // threads)
    return _peer([*module, "--port", str(port), "--threads", str(threads), "--workers", str(workers)], threads)


CANDIDATES: dict[str, Candidate] = {
    "ours": Candidate(wires.Native, "`voiceforge serve --model nano` as it comes (int8), connections up to 1,000", _ours),
    "whisper-live": Candidate(
        wires.WhisperLive,
        "WhisperLive 0.10.0: faster-whisper backend (int8, beam of 5), one model for all clients, its client's default "
        f"settings but `same_output_threshold` {wires.SAME_OUTPUT} (10 makes it seconds later on a CPU), Silero VAD from "
        "the faster-whisper wheel, limits of connections and of their length out of the way",
        _whisper_live(),
    ),
    "whisper-live-batched": Candidate(
        wires.WhisperLive,
        "as `whisper-live`, with batch inference of up to 16 clients (beam of 5 too), its admission control out of the way",
        _whisper_live("--batched"),
    ),
    "whisperlivekit": Candidate(
        wires.WhisperLiveKit,
        "WhisperLiveKit 0.2.26: LocalAgreement over faster-whisper (compute type auto, beam of 5), Silero VAD from its "
        "wheel, raw PCM, warm-up file off (it would be downloaded). Its default policy, AlignAtt, cannot read this "
        "checkpoint: it has the vocabularies of OpenAI's checkpoints built in",
        _whisper_live_kit,
    ),
    "loop": Candidate(
        wires.Loop,
        "faster-whisper (int8, its defaults) behind a loop that decodes a stream's growing buffer again and again; Silero "
        "VAD from its wheel",
        _loop,
    ),
}


@contextlib.contextmanager
def running(candidate: Candidate, cache: Path, log: Path, niceness: int, threads: int) -> Iterator[tuple[str, int]]:
    """The server's WebSocket address, without a path, and its process. It has accepted a connection."""
    port = free_ports(1)[0]
    start = candidate.start(cache, port, threads)
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["nice", "-n", str(niceness), *start.command], env=os.environ | start.environment, stdout=file, stderr=file
        )
        try:
            _wait(server, port, log)
            yield f"ws://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()
            try:
                server.wait(40)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the server did not get ready; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}")
