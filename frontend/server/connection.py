"""One client from its handshake's acceptance to the close frame, whatever the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from frontend.audio.channels import Channels
from frontend.audio.resample import Pcm
from frontend.errors import (
    EngineRejected,
    InvalidConfig,
    MessageTooBig,
    NoData,
    SessionTooLong,
    ShuttingDown,
    SlowClient,
    UndecodableAudio,
    VoiceForgeError,
)
from frontend.protocols.base import (
    Audio,
    CloseStream,
    Command,
    Configure,
    Discard,
    Finalize,
    KeepAlive,
    Opened,
    Outgoing,
    Reply,
    StreamOptions,
    Totals,
    Wire,
)
from frontend.server.callbacks import Delivery, delivering
from frontend.server.decoders import CodedInput
from frontend.server.live import LiveSession
from frontend.server.outbox import Outbox
from frontend.server.sessions import Services, asr_stream, max_segment_s, model_of, open_session, session_settings
from frontend.speech.events import Event, Final, Partial

log = logging.getLogger(__name__)

SET_BEFORE_AUDIO = (
    "model", "language", "interim_results", "vad_enabled", "vad_threshold", "pre_roll_ms", "endpointing_ms", "multichannel",
)  # fmt: skip


def now() -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Connection:
    """Reads commands, keeps the timers, and makes sure that whatever was accepted is answered before the close."""

    def __init__(self, ws: ServerConnection, wire: Wire, services: Services, session_id: str) -> None:
        self.session_id = session_id
        self._ws, self._wire, self._services = ws, wire, services
        self._settings = services.settings
        self._options = wire.options
        self._sessions: list[LiveSession] = []
        self._n_channels = wire.options.n_channels
        self._parting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parted = asyncio.Event()
        self._input = self._make_input()
        self._outbox = Outbox(
            ws.send, services.metrics, limit=self._settings.max_outbox, patience_s=self._settings.slow_client_s
        )
        self._delivery: Delivery | None = None
        self._totals = Totals()
        self._counted = False
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """The server stops: finish what is running and say goodbye."""
        self._draining.set()

    async def run(self) -> None:
        """Serves the client until either side ends it; returns with the connection closed."""
        writer = asyncio.create_task(self._outbox.run(), name="outbox")
        main = asyncio.create_task(self._serve(), name="session")
        try:
            await asyncio.wait({writer, main}, return_when=asyncio.FIRST_COMPLETED)
            if main.done():
                error = main.result()
                self._outbox.finish()
                await writer
                await self._ws.close(*self._wire.close_frame(error))
            else:
                writer.result()  # the writer ends first only when the client does not read
        except ConnectionClosed:
            self._count("client_gone")
        except SlowClient as error:
            self._services.metrics.errors.labels(error.code).inc()
            self._count(error.code.lower())
            log.info("session %s: %s", self.session_id, error)
            self._ws.protocol.fail(error.close_code, str(error)[:120])
            for data in self._ws.protocol.data_to_send():
                self._ws.transport.write(data)
            self._ws.transport.abort()
        finally:
            for task in (writer, main):
                task.cancel()
            await asyncio.gather(writer, main, return_exceptions=True)

    # --- the session ----------------------------------------------------------------------------------------------

    async def _serve(self) -> VoiceForgeError | None:
        """Returns what ended the session, None when the client closed it; the last messages are then queued."""
        ending: VoiceForgeError | None = None
        async with AsyncExitStack() as held:
            try:
                self._put(self._wire.opened(self._opened(), now()))
                if callback := self._options.callback:
                    services = self._services
                    going_out = delivering(services.web, callback, self.session_id, self._settings, services.metrics)
                    self._delivery = await held.enter_async_context(going_out)
                await self._stream()
            except VoiceForgeError as error:
                self._tell_error(error)
                ending = error
            self._totals = replace(self._totals, received=self._received)
            last = self._wire.closed(self._totals, ending, now())
            if self._delivery and not self._delivery.task.done():
                self._put(last, self._delivery.outbox)
                self._delivery.outbox.finish()
                try:
                    await self._delivery.task
                except VoiceForgeError as error:
                    self._tell_error(error)
                    ending = ending or error
        self._count(ending.code.lower() if ending else "closed")
        self._put(last)
        return ending

    async def _stream(self) -> None:
        """Everything between the first and the last messages. What ends it is raised after the finals are out."""
        ending: VoiceForgeError | None = None
        async with AsyncExitStack() as running:
            running.callback(self._close_input)
            await self._open_sessions(running)
            reader = asyncio.create_task(self._read(), name="reader")
            drain = asyncio.create_task(self._draining.wait(), name="drain")
            delivery = [self._delivery.task] if self._delivery else []
            try:
                await self._first_of({reader, drain, *delivery}, running)
                for failed in filter(asyncio.Task.done, delivery):
                    failed.result()
                if reader.done():
                    reader.result()
                else:
                    ending = ShuttingDown("the server is shutting down; connect again in a few seconds")
            except VoiceForgeError as error:
                ending = error
            finally:
                reader.cancel()
                drain.cancel()
                await asyncio.gather(reader, drain, return_exceptions=True)
            last = asyncio.create_task(self._end_input(), name="last")
            try:
                await self._first_of({last}, running)
                last.result()
            except VoiceForgeError as error:
                ending = ending or error
            finally:
                last.cancel()
            for session in self._sessions:
                session.close()
            for session in self._sessions:
                await session.finished.wait()
        if ending:
            raise ending

    async def _read(self) -> None:
        """Carries out what the client sends; returns when it closes the stream. Raises what ends the session."""
        limits, loop = self._settings, asyncio.get_running_loop()
        patience = limits.no_data_timeout_s if self._options.must_send else None
        whole, quiet = asyncio.timeout(limits.max_session_s), asyncio.timeout(patience)
        try:
            async with whole, quiet:
                while True:
                    frame = await self._ws.recv()
                    quiet.reschedule(None)  # waiting for the engine is not the client's silence
                    if not await self._take(frame):
                        return
                    quiet.reschedule(loop.time() + patience if patience else None)
        except ConnectionClosed:
            if self._delivery is None:
                raise  # nobody is left to tell; a callback still gets its results
        except TimeoutError:
            if whole.expired():
                raise SessionTooLong(f"a session may last {limits.max_session_s:.0f} s; open a new one") from None
            raise NoData(
                f"neither audio nor keep_alive came for {limits.no_data_timeout_s:.0f} s; "
                "send keep_alive while there is no audio"
            ) from None

    async def _take(self, frame: str | bytes) -> bool:
        """False when the client closes the stream. What is wrong with one message is told, and the stream goes on."""
        limit = self._settings.max_frame_bytes
        if len(frame) > limit * (1 if isinstance(frame, bytes) else 2):
            raise MessageTooBig(f"a frame of {len(frame)} bytes is over the limit of {limit}; send smaller pieces")
        try:
            for command in self._wire.parse(frame):
                if isinstance(command, CloseStream):
                    return False
                await self._carry_out(command)
        except VoiceForgeError as error:
            if error.fatal:
                raise
            self._tell_error(error)
        return True

    async def _carry_out(self, command: Command) -> None:
        match command:
            case Audio(data):
                if isinstance(self._input, Channels):
                    await self._hear(self._input.feed(data))
                else:
                    async for block in self._input.feed(data):
                        await self._hear(block)
            case Configure(options):
                await self._configure(options)
            case Finalize(channel):
                await self._flush_input()
                for session in self._sessions if channel is None else [self._sessions[channel]]:
                    session.finalize()
            case Discard():
                await self._flush_input()
                for session in self._sessions:
                    session.discard()
            case Reply(messages):
                self._put(list(messages))
            case KeepAlive() | CloseStream():
                pass

    async def _hear(self, audio: Sequence[Pcm] | Pcm) -> None:
        """A piece of every channel, in real time or faster: returns when there is room for the next one."""
        if len(audio) != len(self._sessions):
            await self._part(len(audio))
        for session, samples in zip(self._sessions, audio, strict=True):
            await session.feed(samples)

    async def _part(self, n_channels: int) -> None:
        """A container's channels are known: each gets its session. Raises `UndecodableAudio` when it is too late."""
        if self._parting.done() or not self._options.audio.contained:
            n = len(self._sessions)
            raise UndecodableAudio(f"the audio has {n_channels} channels instead of {n}; open a new connection for it")
        self._n_channels = n_channels
        self._wire.parted(n_channels)
        self._parting.set_result(None)
        await self._parted.wait()

    async def _first_of(self, tasks: set[asyncio.Task[Any]], running: AsyncExitStack) -> None:
        """Waits for one of them; meanwhile opens the sessions that a container's channels need, since a session belongs to
        the task that opens it."""
        await asyncio.wait({self._parting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if self._parting.done() and not self._parted.is_set():
            await self._open_sessions(running)
            self._parted.set()
        if self._parted.is_set():
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _open_sessions(self, running: AsyncExitStack) -> None:
        for channel in range(len(self._sessions), self._n_channels):
            self._sessions.append(await running.enter_async_context(self._session(channel)))

    async def _flush_input(self) -> None:
        """The samples that are held for the sake of a smooth continuation; the stream may go on afterwards."""
        if isinstance(self._input, Channels):
            await self._hear(self._input.flush())
        else:
            async for block in self._input.flush():
                await self._hear(block)

    async def _end_input(self) -> None:
        """The last samples; not what would still unfold from a message that was not heard to its end."""
        if isinstance(self._input, Channels):
            await self._hear(self._input.flush())
        elif not self._input.busy:
            async for block in self._input.end():
                await self._hear(block)
        self._close_input()

    def _close_input(self) -> None:
        if isinstance(self._input, CodedInput):
            self._input.close()

    async def _configure(self, options: StreamOptions) -> None:
        """Raises `InvalidConfig` and keeps the old settings when audio has begun and more than its format would change."""
        old, self._options = self._options, options
        try:
            if options.n_channels != old.n_channels:
                raise InvalidConfig("channels apart from each other can only be set in the handshake; open a new connection")
            if self._received == 0:
                for session in self._sessions:
                    session.restart(session_settings(self._services, options), asr_stream(self._services, options))
            elif late := [n for n in SET_BEFORE_AUDIO if getattr(options, n) != getattr(old, n)]:
                raise InvalidConfig(f"{', '.join(late)} can only be set before the first audio; open a new connection")
            if options.audio != old.audio:
                await self._end_input()
                self._input = self._make_input()
        except VoiceForgeError:
            self._options = old
            self._wire.refused(old)
            raise
        self._put(self._wire.configured(self._model, now()))

    # --- settings and messages ------------------------------------------------------------------------------------

    def _make_input(self) -> Channels | CodedInput:
        audio, apart = self._options.audio, self._options.multichannel
        return Channels(audio, apart=apart) if audio.raw else self._services.decoders.stream(audio, apart=apart)

    @property
    def _received(self) -> int:
        return max((s.received for s in self._sessions), default=0)

    @property
    def _model(self) -> str:
        return model_of(self._services, self._options)

    def _session(self, channel: int) -> LiveSession:
        return open_session(self._services, self._options, lambda event: self._on_event(event, channel))

    def _opened(self) -> Opened:
        limits = {
            "max_frame_bytes": self._settings.max_frame_bytes,
            "no_data_timeout_s": self._settings.no_data_timeout_s,
            "max_session_s": self._settings.max_session_s,
            "max_segment_s": max_segment_s(self._services, self._options),
        }
        return Opened(self.session_id, self._model, limits, now())

    def _on_event(self, event: Event, channel: int) -> None:
        totals = self._totals
        if isinstance(event, Final):
            totals = replace(totals, n_finals=totals.n_finals + 1, speech=totals.speech + event.end - event.start)
        elif isinstance(event, Partial):
            totals = replace(totals, n_partials=totals.n_partials + 1)
        self._totals = totals
        self._put(self._wire.tell(event, channel, now()), self._delivery.outbox if self._delivery else self._outbox)

    def _put(self, messages: list[Outgoing], outbox: Outbox | None = None) -> None:
        """To the client, unless it is another outbox's."""
        for message in messages:
            (outbox or self._outbox).put(message)

    def _tell_error(self, error: VoiceForgeError) -> None:
        self._services.metrics.errors.labels(error.code).inc()
        if isinstance(error, EngineRejected):
            log.error("session %s: %s", self.session_id, error)
        self._put(self._wire.failed(error, now()))

    def _count(self, reason: str) -> None:
        """Once a session: the first reason is the one."""
        if not self._counted:
            self._services.metrics.closed.labels(reason).inc()
        self._counted = True
