"""Decoder processes as the server sees them: bytes in, blocks of samples out, and an error when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frontend.audio.format import AudioFormat
from frontend.decoding import wire
from frontend.errors import EngineUnavailable, UndecodableAudio
from frontend.processes import spawn

Block = npt.NDArray[np.int16]
"""int16 (channels, n) at 16 kHz, a second at most."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""What forks must not have threads; numpy starts some where it is let."""
END_S = 5
"""For the host to end by itself."""
NO_DECODER = "no decoder could be started; connect again in a few seconds"


class Decoders:
    """The host of the processes; started by the first stream that needs one, unless before, and again when it has died.

    A decoder that neither wants nor gives anything for `patience_s` is killed, as is one when it is closed. Each may take
    `memory_bytes` beyond what it shares with the others.
    """

    def __init__(self, *, patience_s: float = 10.0, memory_bytes: int = 256 * 2**20) -> None:
        self.patience_s, self._memory_bytes = patience_s, memory_bytes
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None

    async def start(self) -> None:
        async with self._starting:
            if self._process and self._process.returncode is None:
                return
            await self._stop()
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._control.setblocking(False)  # a host that takes nothing is like none
            with theirs:
                self._process = await spawn(
                    sys.executable, "-m", "frontend.decoding.host", str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
                    env=os.environ | ONE_THREAD,
                )  # fmt: skip

    async def close(self) -> None:
        async with self._starting:
            await self._stop()

    async def _stop(self) -> None:
        if self._control:
            self._control.close()
        if self._process:
            try:
                await asyncio.wait_for(self._process.wait(), END_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._control = self._process = None

    def stream(self, audio: AudioFormat, *, apart: bool) -> CodedInput:
        """For bytes as they come; its process is there from the first ones on."""
        return CodedInput(self, audio, apart=apart)

    async def file(self, path: Path, audio: AudioFormat, *, apart: bool) -> AsyncGenerator[Block]:
        """The samples of a file. Raises `UndecodableAudio` or `EngineUnavailable`."""
        decoder = CodedInput(self, audio, apart=apart, path=path)
        try:
            async for block in decoder.end():
                yield block
        finally:
            decoder.close()

    async def fork(self, job: Mapping[str, object]) -> tuple[int, Streams]:
        """A process at work on a job, by its number. Raises `EngineUnavailable` when there is no host."""
        await self.start()
        number, (ours, theirs) = next(self._numbers), socket.socketpair()
        with theirs:
            try:
                assert self._control
                socket.send_fds(self._control, [b"%d" % number], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise EngineUnavailable(NO_DECODER) from error
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(wire.packed(wire.JOB, json.dumps({**job, "memory_bytes": self._memory_bytes}).encode()))
        return number, (reader, writer)

    def kill(self, number: int) -> None:
        if self._control:
            with contextlib.suppress(OSError):  # then the host is gone, and its children with it
                self._control.send(b"%d" % number)


class CodedInput:
    """One stream, or one file. What `feed`, `flush` and `end` give has to be taken; a cancelled one goes on with the next.

    They raise `UndecodableAudio`, after which there is no more, or `EngineUnavailable`.
    """

    def __init__(self, decoders: Decoders, audio: AudioFormat, *, apart: bool, path: Path | None = None) -> None:
        self._decoders = decoders
        self._job = {"format": asdict(audio), "apart": apart, "path": path and str(path.resolve())}
        self._number = 0
        self._streams: Streams | None = None
        self._head: tuple[bytes, int] | None = None
        self._closed = False
        self._unanswered = 0

    @property
    def busy(self) -> bool:
        """Whether there may be more of what was fed."""
        return self._unanswered > 0

    async def feed(self, data: bytes) -> AsyncIterator[Block]:
        """All samples that can be made of the bytes so far."""
        if not data:
            return
        await self._open()
        async for block in self._ask(wire.DATA, data):
            yield block

    async def flush(self) -> AsyncIterator[Block]:
        """What is held only for the sake of a smooth continuation; the stream may go on afterwards."""
        if self._streams and not self._closed:
            async for block in self._ask(wire.FLUSH):
                yield block

    async def end(self) -> AsyncIterator[Block]:
        """The last samples."""
        if self._job["path"]:
            await self._open()
        elif self._streams and not self._closed:
            self._write(wire.END)
        while self._streams and not self._closed:
            kind, body = await self._receive()
            if kind == wire.BLOCK:
                yield _block(body)
            elif kind == wire.DONE:
                self.close()

    def close(self) -> None:
        """The process ends now."""
        if self._streams and not self._closed:
            self._streams[1].close()
            self._decoders.kill(self._number)
        self._closed, self._unanswered = True, 0

    async def _open(self) -> None:
        if self._closed:
            raise UndecodableAudio("the audio could not be decoded; open a new connection")
        if self._streams:
            return
        self._number, self._streams = await self._decoders.fork(self._job)
        if self._job["path"]:
            return
        self._unanswered = 1
        try:
            async for _ in self._answers():
                pass
        except UndecodableAudio as error:  # it has seen no audio yet
            raise EngineUnavailable(NO_DECODER) from error

    async def _ask(self, kind: bytes, body: bytes = b"") -> AsyncIterator[Block]:
        self._write(kind, body)
        self._unanswered += 1
        async for block in self._answers():
            yield block

    async def _answers(self) -> AsyncIterator[Block]:
        while self._unanswered:
            kind, body = await self._receive()
            if kind == wire.BLOCK:
                yield _block(body)
            else:
                self._unanswered -= 1

    def _write(self, kind: bytes, body: bytes = b"") -> None:
        assert self._streams
        self._streams[1].write(wire.packed(kind, body))

    async def _receive(self) -> tuple[bytes, bytes]:
        assert self._streams
        reader = self._streams[0]
        try:
            async with asyncio.timeout(self._decoders.patience_s):
                if self._head is None:
                    self._head = wire.HEAD.unpack(await reader.readexactly(wire.HEAD.size))
                body = await reader.readexactly(self._head[1])
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            what = "took too long over" if isinstance(error, TimeoutError) else "failed at"
            raise UndecodableAudio(
                f"the decoder {what} the audio; send another encoding, or open a new connection"
            ) from error
        kind, self._head = self._head[0], None
        if kind == wire.FAILED:
            self.close()
            raise UndecodableAudio(body.decode())
        return kind, body


def _block(body: bytes) -> Block:
    return np.frombuffer(body, np.int16, offset=1).reshape(body[0], -1)
