"""What one client says and is told, from its handshake to the last message, whatever connections carry it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import ServerConnection

from frontend.errors import EngineRejected, MessageTooBig, NoData, SessionTooLong, ShuttingDown, VoiceForgeError
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
from frontend.server.hearing import Hearing
from frontend.server.outbox import Outbox
from frontend.server.sessions import Services, max_segment_s, model_of
from frontend.speech.events import Event, Final, Partial

log = logging.getLogger(__name__)

SESSION_BYTES = 150_000
"""What a session takes besides its audio and messages; measured."""


def now() -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Conversation:
    """Reads commands, keeps the timers, and makes sure that whatever was accepted is answered before the last message."""

    def __init__(self, wire: Wire, services: Services, session_id: str, outbox: Outbox, *, resumable: bool) -> None:
        self._wire, self._services, self._session_id, self._outbox = wire, services, session_id, outbox
        self._settings, self._resumable = services.settings, resumable
        self._hearing = Hearing(services, wire.options, self._on_event, wire.parted)
        self.reader: asyncio.Task[None] | None = None
        """Reads the client's connection, once there is one; ends with it, or with what the client has to say."""
        self._ready = asyncio.Event()
        self._heard_out: asyncio.Future[VoiceForgeError | None] = asyncio.get_running_loop().create_future()
        """The client has closed the stream or vanished for good, or an error of its audio ends the session."""
        self._delivery: Delivery | None = None
        self._totals = Totals()
        self._lags: list[float] = []
        """Of finals; about one in three seconds of a session."""
        self._opened_at, self._began = now(), asyncio.get_running_loop().time()
        self._counted = False
        self.draining = asyncio.Event()
        """The server stops: finish what is running and say goodbye."""

    async def serve(self) -> VoiceForgeError | None:
        """Returns what ended the session, None when the client closed it; the last messages are then queued."""
        ending: VoiceForgeError | None = None
        async with AsyncExitStack() as held:
            try:
                self._put(self._wire.opened(self._opened(), now()))
                if callback := self._hearing.options.callback:
                    services = self._services
                    going_out = delivering(services.web, callback, self._session_id, self._settings, services.metrics)
                    self._delivery = await held.enter_async_context(going_out)
                await self._stream()
            except VoiceForgeError as error:
                self._tell_error(error)
                ending = error
            lags = sorted(self._lags)
            lag = (_percentile(lags, 50), _percentile(lags, 95)) if lags else None
            self._totals = replace(self._totals, received=self._hearing.received, lag_ms=lag)
            last = self._wire.closed(self._totals, ending, now())
            if self._delivery and not self._delivery.task.done():
                self._put(last, self._delivery.outbox)
                self._delivery.outbox.finish()
                try:
                    await self._delivery.task
                except VoiceForgeError as error:
                    self._tell_error(error)
                    ending = ending or error
        self.count(ending.code.lower() if ending else "closed")
        self._put(last)
        return ending

    async def _stream(self) -> None:
        """Everything between the first and the last messages. What ends it is raised after the finals are out."""
        ending: VoiceForgeError | None = None
        async with AsyncExitStack() as running:
            running.callback(self._hearing.close)
            await self._hearing.open_sessions(running)
            self._ready.set()
            drain = asyncio.create_task(self.draining.wait(), name="drain")
            delivery = [self._delivery.task] if self._delivery else []
            try:
                await self._hearing.first_of({self._heard_out, drain, *delivery}, running)
                for failed in filter(asyncio.Task.done, delivery):
                    failed.result()
                if self._heard_out.done():
                    ending = self._heard_out.result()
                else:
                    ending = ShuttingDown("the server is shutting down; connect again in a few seconds")
            except VoiceForgeError as error:
                ending = error
            finally:
                self.hear_no_more(ending)
                stopped: list[asyncio.Task[Any]] = [drain, *([self.reader] if self.reader else [])]
                for task in stopped:
                    task.cancel()
                await asyncio.gather(*stopped, return_exceptions=True)
            last = asyncio.create_task(self._hearing.end(), name="last")
            try:
                await self._hearing.first_of({last}, running)
                last.result()
            except VoiceForgeError as error:
                ending = ending or error
            finally:
                last.cancel()
            await self._hearing.finish()
        if ending:
            raise ending

    # --- what the client says -------------------------------------------------------------------------------------

    def listen(self, ws: ServerConnection) -> None:
        """Reads from the client's connection, unless it has said everything or another one is still read from."""
        if self.reader is None and not self._heard_out.done():
            self.reader = asyncio.create_task(self._read(ws), name="reader")

    async def rest(self) -> None:
        """While the client is away: carries out what it has sent, and then lets go of the engine."""
        if self.reader:
            await asyncio.wait({self.reader})
        await self._hearing.rest()

    async def _read(self, ws: ServerConnection) -> None:
        """Carries out what the client sends, until it closes the stream or something ends the session.

        Raises `ConnectionClosed` when everything that came before has been taken.
        """
        limits, loop = self._settings, asyncio.get_running_loop()
        patience = limits.no_data_timeout_s if self._hearing.options.must_send else None
        await self._ready.wait()
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
        self.hear_no_more(error)

    def hear_no_more(self, error: VoiceForgeError | None = None) -> None:
        if not self._heard_out.done():
            self._heard_out.set_result(error)

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
                await self._hearing.take(data)
            case Configure(options):
                await self._configure(options)
            case Finalize(channel):
                await self._hearing.finalize(channel)
            case Discard():
                await self._hearing.discard()
            case Reply(messages):
                self._put(list(messages))
            case KeepAlive() | CloseStream():
                pass

    async def _configure(self, options: StreamOptions) -> None:
        """Raises `InvalidConfig`."""
        try:
            await self._hearing.change(options)
        except VoiceForgeError:
            self._wire.refused(self._hearing.options)
            raise
        self._put(self._wire.configured(self._model, now()))

    # --- what it is told ------------------------------------------------------------------------------------------

    def resumed(self) -> list[Outgoing]:
        """What a connection begins with that is not the first."""
        self._services.metrics.resumed.inc()
        return self._wire.resumed(self._opened(), self._hearing.held, now())

    @property
    def delivers(self) -> bool:
        """Whether results go to a callback rather than to the client."""
        return self._delivery is not None

    @property
    def size(self) -> int:
        """Bytes, about."""
        return SESSION_BYTES + self._hearing.size + self._outbox.size

    @property
    def _model(self) -> str:
        return model_of(self._services, self._hearing.options)

    def _opened(self) -> Opened:
        limits = {
            "max_frame_bytes": self._settings.max_frame_bytes,
            "no_data_timeout_s": self._settings.no_data_timeout_s,
            "max_session_s": self._settings.max_session_s,
            "max_segment_s": max_segment_s(self._services, self._hearing.options),
            "resume_s": self._settings.resume_s if self._resumable else 0.0,
        }
        return Opened(self._session_id, self._model, limits, self._opened_at)

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
        self._put(self._wire.tell(event, channel, now()), self._delivery.outbox if self._delivery else self._outbox)

    def _put(self, messages: list[Outgoing], outbox: Outbox | None = None) -> None:
        """To the client, unless it is another outbox's."""
        for message in messages:
            (outbox or self._outbox).put(message)

    def _tell_error(self, error: VoiceForgeError) -> None:
        self._services.metrics.errors.labels(error.code).inc()
        if isinstance(error, EngineRejected):
            log.error("session %s: %s", self._session_id, error)
        self._put(self._wire.failed(error, now()))

    def count(self, reason: str) -> None:
        """Once a session: the first reason is the one."""
        if not self._counted:
            self._services.metrics.closed.labels(reason).inc()
        self._counted = True


def _percentile(ordered: Sequence[float], p: int) -> float:
    """The nearest rank."""
    return ordered[-(-len(ordered) * p // 100) - 1]
