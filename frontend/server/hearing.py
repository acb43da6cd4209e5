"""The audio of one client on its way to the sessions: decoded, its channels apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from frontend.audio.channels import Channels
from frontend.audio.resample import Pcm
from frontend.errors import InvalidConfig, UndecodableAudio, VoiceForgeError
from frontend.protocols.base import Held, StreamOptions
from frontend.server.decoders import Block, CodedInput
from frontend.server.live import LiveSession
from frontend.server.sessions import Services, asr_stream, open_session, session_settings
from frontend.speech.events import Event

SET_BEFORE_AUDIO = (
    "model", "language", "interim_results", "vad_enabled", "vad_threshold", "pre_roll_ms", "endpointing_ms", "multichannel",
)  # fmt: skip
DECODER_BYTES = 5 * 2**20
"""What a decoder of coded audio takes."""


class Hearing:
    """Feeds each channel to a session of its own; `emit` is called with the sessions' events and the channel.

    The channels of a container are known when its audio comes; `parted` is then told how many.
    """

    def __init__(
        self,
        services: Services,
        options: StreamOptions,
        emit: Callable[[Event, int], object],
        parted: Callable[[int], object],
    ) -> None:
        self.options = options
        self.sessions: list[LiveSession] = []
        self._services, self._emit, self._parted = services, emit, parted
        self._n_channels = options.n_channels
        self._to_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened = asyncio.Event()
        self._input = self._make_input()
        self._n_bytes = self._n_samples = 0
        """Of the audio that was taken, in the client's format; the samples are those before the last change of it."""
        self._format_bytes = 0

    def _make_input(self) -> Channels | CodedInput:
        audio, apart = self.options.audio, self.options.multichannel
        return Channels(audio, apart=apart) if audio.raw else self._services.decoders.stream(audio, apart=apart)

    @property
    def received(self) -> int:
        """Samples at 16 kHz."""
        return max((s.received for s in self.sessions), default=0)

    @property
    def held(self) -> Held:
        raw = self.options.audio.raw
        return Held(self._n_bytes, self._n_samples + self._format_bytes // self.options.audio.frame_bytes if raw else None)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(s.size for s in self.sessions) + (DECODER_BYTES if isinstance(self._input, CodedInput) else 0)

    # --- sessions -------------------------------------------------------------------------------------------------

    async def open_sessions(self, running: AsyncExitStack) -> None:
        for channel in range(len(self.sessions), self._n_channels):
            self.sessions.append(await running.enter_async_context(self._session(channel)))

    def _session(self, channel: int) -> LiveSession:
        return open_session(self._services, self.options, lambda event: self._emit(event, channel))

    async def first_of(self, tasks: set[asyncio.Future[Any]], running: AsyncExitStack) -> None:
        """Waits for one of them; meanwhile opens the sessions that a container's channels need, since a session belongs to
        the task that opens it."""
        await asyncio.wait({self._to_open, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if self._to_open.done() and not self._opened.is_set():
            await self.open_sessions(running)
            self._opened.set()
        if self._opened.is_set():
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def rest(self) -> None:
        """Lets go of the engine while no audio comes."""
        for session in self.sessions:
            await session.rest()

    # --- audio ----------------------------------------------------------------------------------------------------

    async def take(self, data: bytes) -> None:
        """Returns when there is room for more. Raises `UndecodableAudio` and what the sessions raise."""
        await self._hear(self._input.feed(data))
        self._n_bytes += len(data)
        self._format_bytes += len(data)

    async def finalize(self, channel: int | None) -> None:
        await self._hear(self._input.flush())
        for session in self.sessions if channel is None else [self.sessions[channel]]:
            session.finalize()

    async def discard(self) -> None:
        await self._hear(self._input.flush())
        for session in self.sessions:
            session.discard()

    async def end(self) -> None:
        """The last samples; not what would still unfold from a message that was not heard to its end."""
        if isinstance(self._input, Channels):
            await self._hear(self._input.flush())
        elif not self._input.busy:
            await self._hear(self._input.end())
        self.close()

    def close(self) -> None:
        """Nothing more is decoded."""
        if isinstance(self._input, CodedInput):
            self._input.close()

    async def finish(self) -> None:
        """Waits for the last finals."""
        for session in self.sessions:
            session.close()
        for session in self.sessions:
            await session.finished.wait()

    async def change(self, options: StreamOptions) -> None:
        """Raises `InvalidConfig` and keeps the old options when audio has begun and more than its format would change."""
        old, self.options = self.options, options
        try:
            if options.n_channels != old.n_channels:
                raise InvalidConfig("channels apart from each other can only be set in the handshake; open a new connection")
            if self.received == 0:
                for session in self.sessions:
                    session.restart(session_settings(self._services, options), asr_stream(self._services, options))
            elif late := [n for n in SET_BEFORE_AUDIO if getattr(options, n) != getattr(old, n)]:
                raise InvalidConfig(f"{', '.join(late)} can only be set before the first audio; open a new connection")
            if options.audio != old.audio:
                await self.end()
                self._n_samples += self._format_bytes // old.audio.frame_bytes if old.audio.raw else 0
                self._format_bytes = 0
                self._input = self._make_input()
        except VoiceForgeError:
            self.options = old
            raise

    async def _hear(self, audio: Sequence[Pcm] | AsyncIterator[Block]) -> None:
        """In real time or faster: returns when there is room for more."""
        if isinstance(audio, AsyncIterator):
            async for block in audio:
                await self._feed(block)
        else:
            await self._feed(audio)

    async def _feed(self, channels: Sequence[Pcm] | Block) -> None:
        """A piece of every channel."""
        if len(channels) != len(self.sessions):
            await self._part(len(channels))
        for session, samples in zip(self.sessions, channels, strict=True):
            await session.feed(samples)

    async def _part(self, n_channels: int) -> None:
        """A container's channels are known: each gets its session. Raises `UndecodableAudio` when it is too late."""
        if self._to_open.done() or not self.options.audio.contained:
            n = len(self.sessions)
            raise UndecodableAudio(f"the audio has {n_channels} channels instead of {n}; open a new connection for it")
        self._n_channels = n_channels
        self._parted(n_channels)
        self._to_open.set_result(None)
        await self._opened.wait()
