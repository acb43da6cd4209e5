"""Real decoder processes: bytes in, samples out; whatever happens to one happens to one stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.encoded import KINDS, RATE, Kind, encode
from frontend.audio.format import AudioFormat
from frontend.errors import EngineUnavailable, UndecodableAudio
from frontend.server.decoders import CodedInput, Decoders
from tests.conftest import ROOT, SHARED

AUTO = AudioFormat("auto")
FILES = sorted(p for p in (SHARED / "speech/formats").glob("*/*") if p.suffix not in {".raw", ".alaw", ".ulaw"})


@pytest.fixture
async def decoders(request: pytest.FixtureRequest) -> AsyncIterator[Decoders]:
    """With other settings by indirect parameters."""
    one = Decoders(**{"patience_s": 20, **getattr(request, "param", {})})
    yield one
    await one.close()
    assert hosts() == []


def hosts() -> list[psutil.Process]:
    """This process's own; a server of other tests may have one too."""
    return [p for p in psutil.Process().children() if named(p)]


def named(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "frontend.decoding.host" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def workers() -> list[psutil.Process]:
    return [worker for host in hosts() for worker in host.children()]


async def gone(process: psutil.Process) -> None:
    async with asyncio.timeout(20):
        while process.is_running():
            await asyncio.sleep(0.02)


async def take(blocks: AsyncIterator[np.ndarray]) -> list[np.ndarray]:
    return [block async for block in blocks]


async def heard(stream: CodedInput, messages: Sequence[bytes]) -> np.ndarray:
    """int16 (channels, n)"""
    parts = [block for message in messages for block in await take(stream.feed(message))]
    return np.concatenate([*parts, *await take(stream.end())], axis=1)


def cut(data: bytes, seed: int, longest: int = 5_000) -> Iterator[bytes]:
    rng, at = random.Random(seed), 0
    while at < len(data):
        n = rng.randint(1, longest)
        yield data[at : at + n]
        at += n


def tone(seconds: float) -> np.ndarray:
    return (8_000 * np.sin(np.arange(round(seconds * RATE)) / 4)).astype(np.int16)


@pytest.mark.skipif(not FILES, reason="no recordings beside the project (../shared/speech)")
@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
async def test_every_file_in_any_cut_is_the_same_samples_or_the_same_error(decoders: Decoders, path: Path):
    data = path.read_bytes()

    async def outcome(messages: Sequence[bytes]) -> bytes | str:
        stream = decoders.stream(AUTO, apart=False)
        try:
            async with asyncio.timeout(60):
                return (await heard(stream, messages)).tobytes()
        except UndecodableAudio as error:
            return str(error)
        finally:
            stream.close()

    whole = await outcome([data])
    assert await outcome(list(cut(data, 1))) == whole
    assert await outcome(list(cut(data, 2, 300))) == whole
    if path.parent.name != "hostile" and path.name != "am_testing.m4a":
        assert isinstance(whole, bytes)


async def test_a_file_may_have_its_index_at_the_end(decoders: Decoders, shared_speech: Path):
    blocks = decoders.file(shared_speech / "formats/odd/am_testing.m4a", AUTO, apart=False)
    assert sum(b.shape[1] for b in await take(blocks)) == pytest.approx(3.2 * RATE, rel=0.01)


@pytest.mark.parametrize("apart", [False, True])
async def test_a_file_of_raw_samples(decoders: Decoders, tmp_path: Path, apart: bool):
    path = tmp_path / "raw"
    path.write_bytes(np.stack([tone(3), -tone(3)], 1).tobytes())
    got = np.concatenate(await take(decoders.file(path, AudioFormat(channels=2), apart=apart)), axis=1)
    np.testing.assert_array_equal(got, np.stack([tone(3), -tone(3)]) if apart else np.zeros((1, 3 * RATE)))


async def test_what_can_be_heard_is_told_at_once_and_the_rest_at_the_end(decoders: Decoders):
    packets = encode(tone(1), KINDS["opus"])
    stream = decoders.stream(AudioFormat("opus", 48_000), apart=False)
    n = 0
    for packet in packets[:25]:
        n += sum(b.shape[1] for b in await take(stream.feed(packet)))
    n += sum(b.shape[1] for b in await take(stream.flush()))
    assert n == pytest.approx(0.5 * RATE, abs=2)
    n += sum(b.shape[1] for b in await take(stream.feed(b"")))
    for packet in packets[25:]:
        n += sum(b.shape[1] for b in await take(stream.feed(packet)))
    n += sum(b.shape[1] for b in await take(stream.end()))
    assert n == pytest.approx(0.02 * len(packets) * RATE, abs=4)


async def test_nothing_sent_starts_no_process_and_is_no_error(decoders: Decoders):
    stream = decoders.stream(AUTO, apart=False)
    assert await take(stream.feed(b"")) == await take(stream.flush()) == await take(stream.end()) == []
    assert hosts() == []


async def test_a_decoder_that_is_killed_takes_one_stream_with_it(decoders: Decoders):
    (data,) = encode(tone(2), KINDS["ogg-opus"])
    one, other = decoders.stream(AUTO, apart=False), decoders.stream(AUTO, apart=False)
    await take(one.feed(data[:2_000]))
    (first,) = workers()
    part = await take(other.feed(data[:2_000]))
    first.kill()
    with pytest.raises(UndecodableAudio, match="the decoder failed"):
        await take(one.feed(data[2_000:]))
    with pytest.raises(UndecodableAudio, match="open a new connection"):
        await take(one.feed(data))
    assert await take(one.end()) == []
    rest = [await take(other.feed(data[2_000:])), await take(other.end())]
    assert sum(b.shape[1] for b in [*part, *rest[0], *rest[1]]) == pytest.approx(2 * RATE, rel=0.02)


@pytest.mark.parametrize("crash", [signal.SIGSEGV, signal.SIGABRT])
async def test_a_crash_is_the_streams_error(decoders: Decoders, crash: signal.Signals):
    stream = decoders.stream(AUTO, apart=False)
    await take(stream.feed(encode(tone(2), KINDS["webm"])[0][:3_000]))
    workers()[0].send_signal(crash)
    with pytest.raises(UndecodableAudio):
        await take(stream.end())


@pytest.mark.parametrize("decoders", [{"patience_s": 0.5}], indirect=True)
async def test_a_decoder_that_hangs_is_killed(decoders: Decoders):
    stream = decoders.stream(AUTO, apart=False)
    (data,) = encode(tone(2), KINDS["ogg-opus"])
    async with asyncio.timeout(20):
        while True:  # until the host has loaded FFmpeg, half a second may be too short
            try:
                await take(stream.feed(data[:2_000]))
                break
            except (UndecodableAudio, EngineUnavailable):
                stream = decoders.stream(AUTO, apart=False)
    process = workers()[-1]
    process.suspend()
    with pytest.raises(UndecodableAudio, match="took too long"):
        await take(stream.feed(data[2_000:]))
    await gone(process)


async def test_what_a_few_bytes_unfold_to_waits_until_it_is_taken(decoders: Decoders):
    (bomb,) = encode(np.zeros(900 * RATE, np.int16), Kind("flac", "flac"))
    assert len(bomb) < 200_000
    stream = decoders.stream(AUTO, apart=False)
    blocks = stream.feed(bomb)
    first = await anext(aiter(blocks))
    assert first.shape[1] <= RATE
    (process,) = workers()
    used = process.cpu_times().user
    await asyncio.sleep(1)
    assert process.cpu_times().user - used < 0.5, "it goes on without anyone listening"
    assert process.memory_info().rss < 120 * 2**20
    assert stream.busy
    stream.close()
    await gone(process)


@pytest.mark.parametrize("decoders", [{"memory_bytes": 4 * 2**20}], indirect=True)
async def test_memory_has_a_limit(decoders: Decoders):
    (data,) = encode(tone(1), KINDS["ogg-opus"])
    with pytest.raises(UndecodableAudio, match="more memory than a stream may have"):
        await heard(decoders.stream(AUTO, apart=False), [data + bytes(32 * 2**20)])
    assert (await heard(decoders.stream(AUTO, apart=False), [data])).shape[1] == pytest.approx(RATE, rel=0.05)


async def test_a_feed_that_is_cancelled_goes_on_with_the_next(decoders: Decoders):
    (data,) = encode(tone(20), KINDS["flac"])
    stream = decoders.stream(AUTO, apart=False)
    got: list[np.ndarray] = []

    async def feed() -> None:
        async for block in stream.feed(data):
            got.append(block)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(feed())
    while not got:
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert stream.busy
    got += await take(stream.end())
    np.testing.assert_array_equal(np.concatenate(got, axis=1)[0], tone(20))


async def test_a_host_that_died_is_replaced(decoders: Decoders):
    (data,) = encode(tone(1), KINDS["ogg-opus"])
    stream = decoders.stream(AUTO, apart=False)
    await take(stream.feed(data[:2_000]))
    (worker,) = workers()
    host = psutil.Process(worker.ppid())
    host.kill()
    await gone(worker)  # with its parent
    with pytest.raises(UndecodableAudio):
        await take(stream.feed(data[2_000:]))
    async with asyncio.timeout(20):
        while host.is_running() and host.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)  # for the event loop to hear of it
    got = await heard(decoders.stream(AUTO, apart=False), [data])
    assert got.shape[1] == pytest.approx(RATE, rel=0.05)


async def test_many_at_once_leave_nothing_behind(decoders: Decoders):
    kinds = ["ogg-opus", "webm", "mp3", "aac", "flac", "wav", "amr", "mp4"] * 3
    data = {name: encode(tone(2), KINDS[name])[0] for name in kinds}
    streams = [decoders.stream(AUTO, apart=False) for _ in kinds]
    got = await asyncio.gather(
        *(heard(s, list(cut(data[k], i))) for i, (s, k) in enumerate(zip(streams, kinds, strict=True)))
    )
    assert all(abs(g.shape[1] / RATE - 2) < 0.2 for g in got)
    async with asyncio.timeout(20):
        while workers():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "is killed"])
def test_nothing_outlives_a_server_that(killed: bool):
    program = """
import asyncio, sys
from frontend.audio.format import AudioFormat
from frontend.server.decoders import Decoders
async def main():
    decoders = Decoders()
    stream = decoders.stream(AudioFormat("auto"), apart=False)
    async for _ in stream.feed(b"OggS"):
        pass
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"ready\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2
        if killed:
            os.kill(process.pid, signal.SIGKILL)
        else:
            process.stdin.close()
        process.wait(30)
    deadline = time.monotonic() + 20
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
