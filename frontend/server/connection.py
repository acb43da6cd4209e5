"""One session from its handshake to the close frame, whatever the wire, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
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
    SessionInUse,
    SessionTooLong,
    ShuttingDown,
    SlowClient,
    UndecodableAudio,
    UnknownSession,
    VoiceForgeError,
)
from frontend.protocols.base import (
    Audio,
    CloseStream,
    Command,
    Configure,
    Discard,
    Finalize,
    Held,
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
from frontend.server.link import Link, vanished
from frontend.server.live import LiveSession
from frontend.server.outbox import Outbox
from frontend.server.parking import Parking
from frontend.server.sessions import Services, asr_stream, max_segment_s, model_of, open_session, session_settings
from frontend.speech.events import Event, Final, Partial

log = logging.getLogger(__name__)

SET_BEFORE_AUDIO = (
    "model", "language", "interim_results", "vad_enabled", "vad_threshold", "pre_roll_ms", "endpointing_ms", "multichannel",
)  # fmt: skip


def now() -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


IN_USE = "the session's client is already connected; close that connection, or begin a new session without session="
UNKNOWN = "there is no session of this id and API key that waits for its client; begin a new one, without session="
PONG_S = 1.5
"""What a connection has to answer a ping in, before another one takes its session over."""
SESSION_BYTES = 150_000
"""What a session takes besides its audio and messages; measured."""
DECODER_BYTES = 5 * 2**20
"""What a decoder of coded audio takes."""


class Connection:
    """Reads commands, keeps the timers, and makes sure that whatever was accepted is answered before the close.

    When the client vanishes, and may go on, the session stays as it is and waits for another link.
    """

    def __init__(self, link: Link, wire: Wire, services: Services, session_id: str, parking: Parking[Connection]) -> None:
        self.session_id = session_id
        self.wire, self._services, self._parking = wire, services, parking
        self._settings = services.settings
        self._options = wire.options
        self._resumable = wire.options.resumable and self._settings.resume_s > 0
        self._sessions: list[LiveSession] = []
        self._n_channels = wire.options.n_channels
        self._parting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parted = asyncio.Event()
        self._input = self._make_input()
        self._link: Link | None = None
        self._next: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._next.set_result(link)
        self._greeted = self._ended = False
        self._reader: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._heard_out: asyncio.Future[VoiceForgeError | None] = asyncio.get_running_loop().create_future()
        """The client has closed the stream or vanished for good, or an error of its audio ends the session."""
        self._outbox = Outbox(
            self._send, services.metrics, limit=self._settings.max_outbox, patience_s=self._settings.slow_client_s,
            ping=self._ping if self._resumable else None,
        )  # fmt: skip
        self._delivery: Delivery | None = None
        self._totals = Totals()
        self._lags: list[float] = []
        """Of finals; about one in three seconds of a session."""
        self._n_bytes = self._n_samples = 0
        """Of the audio that was taken, in the client's format; the samples are those before the last change of it."""
        self._format_bytes = 0
        self._opened_at, self._began = now(), asyncio.get_running_loop().time()
        self._counted = False
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """The server stops: finish what is running and say goodbye."""
        self._draining.set()

    async def run(self) -> None:
        """Serves the client until either side ends it; returns with the connection closed."""
        main = asyncio.create_task(self._serve(), name="session")
        try:
            while True:
                link, self._next = await self._next, asyncio.get_running_loop().create_future()
                try:
                    if not await self._over(link, main):
                        await self._deliver(main)
                        return
                finally:
                    self._link = None
                    link.done.set()
                del link  # and the buffers of its connection
                if not await self._another():
                    self._count("client_gone")
                    await self._deliver(main)
                    return
        finally:
            self._ended = True
            self._outbox.close()
            if self._next.done():  # too late
                self._next.result().done.set()
            else:
                self._next.cancel()
            tasks = [task for task in (main, self._reader) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, main: asyncio.Task[VoiceForgeError | None]) -> None:
        """Nobody is left to tell, but a callback still gets its results."""
        if self._delivery and not main.done():
            self._outbox.close()
            self._hear_no_more(None)
            await main

    # --- connections ----------------------------------------------------------------------------------------------

    async def check_vacant(self) -> None:
        """Raises `SessionInUse` while the client is connected, `UnknownSession` when it has ended its session. A connection
        that does not answer is given up."""
        if self._ended:
            raise UnknownSession(UNKNOWN)
        if self._next.done():
            raise SessionInUse(IN_USE)
        if self._link is None:
            return
        ws = self._link.ws
        try:
            async with asyncio.timeout(PONG_S):
                await (await ws.ping())
        except TimeoutError:
            ws.transport.abort()
            return
        except ConnectionClosed as error:
            if vanished(error):
                return
            raise UnknownSession(UNKNOWN) from None
        raise SessionInUse(IN_USE)

    def go_on(self, link: Link) -> None:
        """The client is back. Raises `SessionInUse` when another link was faster, `UnknownSession` when it is too late."""
        if self._ended:
            raise UnknownSession(UNKNOWN)
        if self._next.done():
            raise SessionInUse(IN_USE)
        self._next.set_result(link)

    async def _over(self, link: Link, main: asyncio.Task[VoiceForgeError | None]) -> bool:
        """Serves the client over one connection. Returns whether it has vanished and may come back."""
        if not await link.opened:
            return True
        self._link = link
        if self._greeted:
            self._outbox.again(self.wire.resumed(self._opened(), self._held, now()), link.after)
            self._services.metrics.resumed.inc()
        self._greeted = True
        writer = asyncio.create_task(self._outbox.run(), name="outbox")
        if self._reader is None and not self._heard_out.done():
            self._reader = asyncio.create_task(self._read(link.ws), name="reader")
        try:
            return await self._served(link.ws, main, writer)
        except ConnectionClosed as error:
            if self._resumable and vanished(error):
                return True
            self._count("client_gone")
        except SlowClient as error:
            self._services.metrics.errors.labels(error.code).inc()
            log.info("session %s: %s", self.session_id, error)
            link.ws.protocol.fail(error.close_code, str(error)[:120])
            for data in link.ws.protocol.data_to_send():
                link.ws.transport.write(data)
            link.ws.transport.abort()
            if self._resumable and not self._outbox.overflow:
                return True
            self._count(error.code.lower())
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return False

    async def _served(
        self, ws: ServerConnection, main: asyncio.Task[VoiceForgeError | None], writer: asyncio.Task[None]
    ) -> bool:
        """Raises what breaks the connection."""
        running: set[asyncio.Task[Any]] = {main, writer, *([self._reader] if self._reader else [])}
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if self._reader in done and not self._reader.cancelled():
                self._reader.result()
            if writer in done:  # everything is said, or the client does not read
                writer.result()
                await ws.close(*self.wire.close_frame(main.result()))
                return self._resumable and ws.protocol.close_rcvd is None and self._outbox.n_unknown > 0
            if main in done:
                main.result()
                self._outbox.finish()

    async def _another(self) -> bool:
        """Whether the client comes back in time. What was accepted is worked on meanwhile; then the engine is let go."""
        reader = self._reader
        with self._parking.place(self._size) as leave:
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(e.wait()) for e in (leave, self._draining)]
            tasks.append(asyncio.create_task(self._rest(reader), name="parked"))
            try:
                async with asyncio.timeout(self._settings.resume_s):
                    while not self._next.done() and not leave.is_set() and not self._draining.is_set():
                        waiting = {self._next, *(t for t in tasks if not t.done())}
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if self._next.done() and reader:  # what has come over the old connection is before the new one's
                        await asyncio.wait({reader})
            except TimeoutError:
                pass
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if reader:
                reader.cancel()
                (problem,) = await asyncio.gather(reader, return_exceptions=True)
                if isinstance(problem, Exception) and not isinstance(problem, ConnectionClosed):
                    raise problem
            self._reader = None
            return self._next.done()

    async def _rest(self, reader: asyncio.Task[None] | None) -> None:
        if reader:
            await asyncio.wait({reader})
        for session in self._sessions:
            await session.rest()

    async def _send(self, text: str) -> None:
        assert self._link
        await self._link.ws.send(text)

    async def _ping(self) -> Awaitable[float]:
        assert self._link
        return await self._link.ws.ping()

    @property
    def _size(self) -> int:
        """Bytes, about."""
        decoders = DECODER_BYTES if isinstance(self._input, CodedInput) else 0
        return SESSION_BYTES + sum(s.size for s in self._sessions) + self._outbox.size + decoders

    @property
    def _held(self) -> Held:
        raw = self._options.audio.raw
        return Held(self._n_bytes, self._n_samples + self._format_bytes // self._options.audio.frame_bytes if raw else None)

    # --- the session ----------------------------------------------------------------------------------------------

    async def _serve(self) -> VoiceForgeError | None:
        """Returns what ended the session, None when the client closed it; the last messages are then queued."""
        ending: VoiceForgeError | None = None
        async with AsyncExitStack() as held:
            try:
                self._put(self.wire.opened(self._opened(), now()))
                if callback := self._options.callback:
                    services = self._services
                    going_out = delivering(services.web, callback, self.session_id, self._settings, services.metrics)
                    self._delivery = await held.enter_async_context(going_out)
                await self._stream()
            except VoiceForgeError as error:
                self._tell_error(error)
                ending = error
            lags = sorted(self._lags)
            lag = (_percentile(lags, 50), _percentile(lags, 95)) if lags else None
            self._totals = replace(self._totals, received=self._received, lag_ms=lag)
            last = self.wire.closed(self._totals, ending, now())
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
            self._listening.set()
            drain = asyncio.create_task(self._draining.wait(), name="drain")
            delivery = [self._delivery.task] if self._delivery else []
            try:
                await self._first_of({self._heard_out, drain, *delivery}, running)
                for failed in filter(asyncio.Task.done, delivery):
                    failed.result()
                if self._heard_out.done():
                    ending = self._heard_out.result()
                else:
                    ending = ShuttingDown("the server is shutting down; connect again in a few seconds")
            except VoiceForgeError as error:
                ending = error
            finally:
                self._hear_no_more(ending)
                stopped: list[asyncio.Task[Any]] = [drain, *([self._reader] if self._reader else [])]
                for task in stopped:
                    task.cancel()
                await asyncio.gather(*stopped, return_exceptions=True)
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

    async def _read(self, ws: ServerConnection) -> None:
        """Carries out what the client sends, until it closes the stream or something ends the session.

        Raises `ConnectionClosed` when everything that came before has been taken.
        """
        limits, loop = self._settings, asyncio.get_running_loop()
        patience = limits.no_data_timeout_s if self._options.must_send else None
        await self._listening.wait()
        whole, quiet = asyncio.timeout_at(self._began + limits.max_session_s), asyncio.timeout(patience)
        error: VoiceForgeError | None = None
        try:
            async with whole, quiet:
                while True:
                    frame = await ws.recv()
                    quiet.reschedule(None)  # waiting for the engine is not the client's silence
                    if not await self._take(frame):
                        break
                    quiet.reschedule(loop.time() + patience if patience else None)
        except VoiceForgeError as ending:
            error = ending
        except TimeoutError:
            if whole.expired():
                error = SessionTooLong(f"a session may last {limits.max_session_s:.0f} s; open a new one")
            else:
                error = NoData(
                    f"neither audio nor keep_alive came for {limits.no_data_timeout_s:.0f} s; "
                    "send keep_alive while there is no audio"
                )
        self._hear_no_more(error)

    def _hear_no_more(self, error: VoiceForgeError | None) -> None:
        if not self._heard_out.done():
            self._heard_out.set_result(error)

    async def _take(self, frame: str | bytes) -> bool:
        """False when the client closes the stream. What is wrong with one message is told, and the stream goes on."""
        limit = self._settings.max_frame_bytes
        if len(frame) > limit * (1 if isinstance(frame, bytes) else 2):
            raise MessageTooBig(f"a frame of {len(frame)} bytes is over the limit of {limit}; send smaller pieces")
        try:
            for command in self.wire.parse(frame):
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
                self._n_bytes += len(data)
                self._format_bytes += len(data)
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
        self.wire.parted(n_channels)
        self._parting.set_result(None)
        await self._parted.wait()

    async def _first_of(self, tasks: set[asyncio.Future[Any]], running: AsyncExitStack) -> None:
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
                self._n_samples += self._format_bytes // old.audio.frame_bytes if old.audio.raw else 0
                self._format_bytes = 0
                self._input = self._make_input()
        except VoiceForgeError:
            self._options = old
            self.wire.refused(old)
            raise
        self._put(self.wire.configured(self._model, now()))

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
        return Opened(self.session_id, self._model, limits, self._opened_at)

    def _on_event(self, event: Event, channel: int) -> None:
        totals = self._totals
        if isinstance(event, Final):
            totals = replace(totals, n_finals=totals.n_finals + 1, speech=totals.speech + event.end - event.start)
            self._lags.append(event.timings.lag_ms)
        elif isinstance(event, Partial):
            totals = replace(totals, n_partials=totals.n_partials + 1)
        if isinstance(event, Partial | Final):
            totals = replace(totals, engine_ms=totals.engine_ms + event.timings.encode_ms + event.timings.decode_ms)
        self._totals = totals
        self._put(self.wire.tell(event, channel, now()), self._delivery.outbox if self._delivery else self._outbox)

    def _put(self, messages: list[Outgoing], outbox: Outbox | None = None) -> None:
        """To the client, unless it is another outbox's."""
        for message in messages:
            (outbox or self._outbox).put(message)

    def _tell_error(self, error: VoiceForgeError) -> None:
        self._services.metrics.errors.labels(error.code).inc()
        if isinstance(error, EngineRejected):
            log.error("session %s: %s", self.session_id, error)
        self._put(self.wire.failed(error, now()))

    def _count(self, reason: str) -> None:
        """Once a session: the first reason is the one."""
        if not self._counted:
            self._services.metrics.closed.labels(reason).inc()
        self._counted = True


def _percentile(ordered: Sequence[float], p: int) -> float:
    """The nearest rank."""
    return ordered[-(-len(ordered) * p // 100) - 1]
