"""One step: so many streams to one running server, and what they and its processes came to."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil

from bench.load import Clip
from bench.streams.client import RATE, Played, play, read
from bench.streams.lags import Lags, Said, lags
from bench.streams.wires import Pcm, Wire
from export.nano.evaluate import word_errors

TAIL_S = 3.0
"""Of silence at the end of a stream, like a microphone that stays open: the last sentence ends as the others do."""
START_S = 3.0
"""Streams start spread over so long."""
ALONE_ROUNDS = 3
"""One stream alone speaks all sentences so many times: what the others are compared with should rest on more than one."""
MEMORY_S = 0.5


@dataclass(frozen=True)
class Script:
    """Sentences with pauses, as one stream speaks them; `spans` are the speech of each, in samples."""

    audio: Pcm
    texts: list[str]
    spans: list[tuple[int, int]]


def enough(clips: Sequence[Clip], seconds: float, gap_s: float) -> list[Clip]:
    """The first clips that with their pauses fill `seconds`."""
    out: list[Clip] = []
    for clip in clips:
        out.append(clip)
        if sum(len(c.audio) / RATE + gap_s for c in out) >= seconds:
            return out
    raise ValueError(f"{len(clips)} clips do not fill {seconds} s")


def script(clips: Sequence[Clip], gap_s: float, first: int = 0, rounds: int = 1) -> Script:
    """All clips, a pause after each, beginning with number `first` and going round."""
    turn = first % len(clips)
    spoken = [*clips[turn:], *clips[:turn]] * rounds
    parts: list[Pcm] = []
    spans: list[tuple[int, int]] = []
    position = 0
    for clip in spoken:
        spans.append((position + clip.speech_start, position + clip.speech_end))
        parts += [clip.audio, np.zeros(round(gap_s * RATE), np.int16)]
        position += len(clip.audio) + round(gap_s * RATE)
    return Script(np.concatenate([*parts, np.zeros(round(TAIL_S * RATE), np.int16)]), [c.text for c in spoken], spans)


@dataclass
class Row:
    """One step of one server. Lags in milliseconds, None where too many sentences were missed; memory is the peak of what
    its processes hold (proportional set)."""

    server: str
    streams: int
    attempt: int
    first_partial_ms: dict[str, float | None]
    final_lag_ms: dict[str, float | None]
    committed_lag_ms: dict[str, float | None]
    sentences: int
    missed: int
    wer: float
    words: int
    cpu_s_per_audio_s: float
    peak_mib: float
    refused: int
    errors: list[str]
    client_lag_ms: float
    verdict: str = ""
    texts: list[str] = field(default_factory=list)
    """What each stream had in the end."""

    @property
    def final_lag_p95_ms(self) -> float | None:
        return self.final_lag_ms["p95"]

    @property
    def n_errors(self) -> int:
        return len(self.errors)


async def run(
    server: str, url: str, wire: type[Wire], pid: int, clips: Sequence[Clip], gap_s: float, streams: int, attempt: int
) -> Row:
    offsets = np.random.default_rng(attempt).uniform(0, START_S, streams)
    scripts = [script(clips, gap_s, i + attempt, ALONE_ROUNDS if streams == 1 else 1) for i in range(streams)]
    wires = [wire() for _ in scripts]
    process = psutil.Process(pid)
    cpu = _cpu_s(process)
    watch = asyncio.create_task(_peak_mib(process))
    played = await asyncio.gather(
        *(play(url, w, s.audio, float(o)) for w, s, o in zip(wires, scripts, offsets, strict=True))
    )
    cpu = _cpu_s(process) - cpu
    watch.cancel()
    peak = await watch
    return _row(server, attempt, scripts, wires, played, cpu, peak)


def _row(
    server: str, attempt: int, scripts: list[Script], wires: list[Wire], played: list[Played], cpu_s: float, peak_mib: float
) -> Row:
    heard = [(s, p, *read(w, p)) for s, w, p in zip(scripts, wires, played, strict=True) if not p.refused]
    seen: list[Lags] = []
    committed: list[Lags] = []
    for s, p, text, settled in heard:
        said = [Said(t, p.sent(a), p.sent(b)) for t, (a, b) in zip(s.texts, s.spans, strict=True)]
        seen.append(lags(said, text))
        committed.append(lags(said, settled))
    texts = [text[-1].text if text else "" for _, _, text, _ in heard]
    score = word_errors([" ".join(s.texts) for s, *_ in heard], texts) if heard else None
    audio_s = sum(len(s.audio) for s, *_ in heard) / RATE
    return Row(
        server,
        len(scripts),
        attempt,
        percentiles([v for one in seen for v in one.first], 0),
        percentiles([v for one in seen for v in one.final], sum(one.missed for one in seen)),
        percentiles([v for one in committed for v in one.final], sum(one.missed for one in committed)),
        sum(len(s.texts) for s, *_ in heard),
        sum(one.missed for one in seen),
        round(score.wer, 2) if score else 100.0,
        score.n_words if score else 0,
        round(cpu_s / audio_s, 4) if audio_s else 0.0,
        round(peak_mib, 1),
        sum(p.refused for p in played),
        [e for p in played for e in p.errors],
        round(1000 * max(p.client_lag for p in played), 1),
        texts=texts,
    )


def percentiles(values: Sequence[float], missed: int) -> dict[str, float | None]:
    """In milliseconds, of `values` in seconds and as many without end; None where these weigh in."""
    out: dict[str, float | None] = {}
    for q in (50, 95):
        told = math.ceil(q / 100 * (len(values) + missed - 1)) < len(values)
        filled = [*values, *[max(values, default=0.0)] * missed]  # what stands for the endless is not looked at
        out[f"p{q}"] = round(1000 * float(np.percentile(filled, q)), 1) if told else None
    return out


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    total = 0.0
    for one in _family(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:2])
    return total


async def _peak_mib(process: psutil.Process) -> float:
    """Until cancelled. Reading the kernel's books takes milliseconds a process: not in the thread that paces."""
    peak = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            peak = max(peak, await asyncio.to_thread(_memory_mib, process))
            await asyncio.sleep(MEMORY_S)
    return peak


def _memory_mib(process: psutil.Process) -> float:
    total = 0
    for one in _family(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_full_info().pss
    return total / 2**20


async def says(url: str, wire: type[Wire], clip: Clip) -> str:
    """One sentence to a server that has just started: it warms up, and has to have a text for it."""
    warm = script([clip], 0)
    one = wire()
    began = time.perf_counter()
    played = await play(url, one, warm.audio, 0)
    text, _ = read(one, played)
    if played.errors or played.refused or not text or not text[-1].text:
        why = "; ".join(played.errors) or "nothing came"
        raise RuntimeError(f"no text for {clip.text!r} after {time.perf_counter() - began:.0f} s: {why}")
    return text[-1].text
