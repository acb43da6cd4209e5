"""What coded audio costs: bytes on the wire, CPU and memory of a stream's decoder, how soon it starts, and words lost.

`python -m bench.decoding`. Held-out sentences, each kind encoded here and decoded by real decoder processes, fed as a live
client would (20 ms packets, pieces of 100 ms otherwise) but without waiting; recognised offline, so that nothing but the
codec differs. Raw PCM goes the way it goes in the server: within its process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bench.encoded import KINDS, Kind, encode
from bench.speech import clips
from export.nano.evaluate import Recogniser, word_errors
from export.repository import NANO
from frontend.audio.channels import Channels
from frontend.audio.format import AudioFormat
from frontend.server.decoders import Decoders

RESULTS = Path(__file__).parent / "results"
RATE = 16_000
PIECE_S = 0.1
LONG_S = 60
"""Of speech, for CPU and memory."""
STARTS = 30


@dataclass
class Row:
    """`wire`: with WebSocket frames (RFC 6455: 6 bytes a message from a client, 8 over 125 bytes)."""

    kbit_s: float
    wire_kbit_s: float
    cpu_percent: float
    own_cpu_percent: float
    memory_mb: float
    start_ms: float
    wer: float


def messages(kind: Kind, samples: np.ndarray) -> list[bytes]:
    data = encode(samples, kind)
    if len(data) > 1:
        return data
    step = max(1, round(len(data[0]) * PIECE_S * RATE / len(samples)))
    return [data[0][i : i + step] for i in range(0, len(data[0]), step)]


def framed(sent: list[bytes]) -> int:
    return sum(len(m) + (6 if len(m) < 126 else 8) for m in sent)


def audio_format(kind: Kind) -> AudioFormat:
    return AudioFormat(kind.encoding, min(kind.rate, 48_000), kind.channels)


def host() -> psutil.Process:
    (found,) = (p for p in psutil.Process().children() if "frontend.decoding.host" in p.cmdline())
    return found


async def played(decoders: Decoders, kind: Kind, sent: list[bytes]) -> tuple[np.ndarray, float, float, float]:
    """The samples; CPU seconds of the decoder and of this process; the decoder's own memory in MB, at its end."""
    stream, parts, own = decoders.stream(audio_format(kind), apart=False), list[np.ndarray](), time.process_time()
    for message in sent:
        parts += [block[0] async for block in stream.feed(message)]
    parts += [block[0] async for block in stream.flush()]
    own = time.process_time() - own
    (worker,) = host().children()
    cpu, memory = worker.cpu_times(), worker.memory_full_info().uss / 2**20
    parts += [block[0] async for block in stream.end()]
    return np.concatenate(parts), cpu.user + cpu.system, own, memory


async def started(decoders: Decoders, kind: Kind, sent: list[bytes]) -> float:
    """Milliseconds from the first bytes to all that they hold, process included."""
    took: list[float] = []
    for _ in range(STARTS):
        stream, began = decoders.stream(audio_format(kind), apart=False), time.perf_counter()
        async for _ in stream.feed(sent[0]):
            pass
        took.append(1000 * (time.perf_counter() - began))
        stream.close()
        while host().children():  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.01)
    return statistics.median(took)


def raw(samples: np.ndarray) -> tuple[float, float]:
    """CPU percent of linear16 in the server's process, at 16 kHz and at 48 kHz."""
    found: list[float] = []
    for rate in (RATE, 48_000):
        channels = Channels(AudioFormat("linear16", rate), apart=False)
        data = np.resize(samples, LONG_S * rate).astype("<i2").tobytes()
        step, began = round(PIECE_S * rate) * 2, time.process_time()
        for i in range(0, len(data), step):
            channels.feed(data[i : i + step])
        found.append(100 * (time.process_time() - began) / LONG_S)
    return found[0], found[1]


async def measured(utterances: int) -> tuple[dict[str, Row], tuple[float, float], float]:
    speech = clips(utterances)
    recogniser = Recogniser(NANO, "fp32")
    texts = [clip.text for clip in speech]

    def wer(audio: list[np.ndarray]) -> float:
        return word_errors(texts, [h.text for h in recogniser.transcribe(audio)]).wer

    long = np.resize(np.concatenate([clip.audio for clip in speech]), LONG_S * RATE)
    rows: dict[str, Row] = {}
    decoders = Decoders()
    await decoders.start()
    await played(decoders, KINDS["opus"], messages(KINDS["opus"], long[:RATE]))  # until the host has loaded FFmpeg
    for name, kind in KINDS.items():
        sent = messages(kind, long)
        _, cpu, own, memory = await played(decoders, kind, sent)
        heard = [(await played(decoders, kind, messages(kind, clip.audio)))[0] for clip in speech]
        rows[name] = Row(
            8 * sum(map(len, sent)) / LONG_S / 1000, 8 * framed(sent) / LONG_S / 1000, 100 * cpu / LONG_S,
            100 * own / LONG_S, memory, await started(decoders, kind, sent), wer(heard),
        )  # fmt: skip
    await decoders.close()
    baseline = wer([clip.audio for clip in speech])
    recogniser.close()
    return rows, raw(long), baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=40)
    args = parser.parse_args()
    rows, (raw16, raw48), baseline = asyncio.run(measured(args.utterances))
    print(f"raw linear16: {raw16:.3f} % CPU at 16 kHz, {raw48:.3f} % at 48 kHz; WER {baseline:.2f}")
    print(f"{'':20}{'kbit/s':>9}{'framed':>9}{'CPU %':>8}{'own %':>8}{'MB':>7}{'start ms':>10}{'WER':>8}")
    for name, r in rows.items():
        print(
            f"{name:20}{r.kbit_s:9.1f}{r.wire_kbit_s:9.1f}{r.cpu_percent:8.2f}{r.own_cpu_percent:8.2f}"
            f"{r.memory_mb:7.1f}{r.start_ms:10.1f}{r.wer:8.2f}"
        )
    RESULTS.mkdir(exist_ok=True)
    report = {"raw": [raw16, raw48], "wer": baseline, "rows": {name: vars(row) for name, row in rows.items()}}
    (RESULTS / "decoding.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
