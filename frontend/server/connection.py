"""One client of the native protocol from its handshake's acceptance to the close frame."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from frontend.errors import (
    EngineRejected,
    InvalidConfig,
    MessageTooBig,
    NoData,
    SessionTooLong,
    ShuttingDown,
    SlowClient,
    VoiceForgeError,
)
from frontend.inference.base import AsrStream, Engine
from frontend.observability.metrics import Metrics
from frontend.protocols.commands import Audio, CloseStream, Configure, Finalize, KeepAlive
from frontend.protocols.config import StreamConfig
from frontend.protocols.native import NativeProtocol, error_message, message, seconds
from frontend.server.live import LiveSession
from frontend.server.outbox import Outbox
from frontend.settings import Settings
from frontend.speech.events import Event, Final, Partial
from frontend.speech.session import RATE, SessionSettings
from frontend.speech.vad_gate import VadSettings

log = logging.getLogger(__name__)

SET_BEFORE_AUDIO = ("language", "model", "vad_enabled", "interim_results", "endpointing_ms")
MARGIN_S = 1
"""A segment is cut this much before the model's window is full."""


def now() -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Services:
    """What every connection shares."""

    engine: Engine
    metrics: Metrics
    settings: Settings
    default_model: str
    window_s: Callable[[str], int]
    """How many seconds of audio a model's window holds."""


class NativeConnection:
    """Reads commands, keeps the timers, and makes sure that whatever was accepted is answered before the close."""

    def __init__(self, ws: ServerConnection, config: StreamConfig, services: Services) -> None:
        self._ws, self._services = ws, services
        self._settings = services.settings
        self._config = config
        self._protocol = NativeProtocol(config)
        self._session: LiveSession | None = None
        self._outbox = Outbox(
            ws.send, services.metrics, limit=self._settings.max_outbox, patience_s=self._settings.slow_client_s
        )
        self.session_id = str(uuid.uuid4())
        self._n_interims = self._n_finals = self._speech = 0
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
                code, reason = main.result()
                self._outbox.finish()
                await writer
                await self._ws.close(code, reason)
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

    async def _serve(self) -> tuple[int, str]:
        """Returns the close code and reason, after `closed` has been queued."""
        code, reason = 1000, "client closed the stream"
        self._outbox.put(self._ready())
        try:
            await self._stream()
        except VoiceForgeError as error:
            self._tell_error(error)
            code, reason = error.close_code, error.code
        self._count("closed" if code == 1000 else reason.lower())
        self._outbox.put(self._closed(reason))
        return code, reason

    async def _stream(self) -> None:
        """Everything between `ready` and `closed`. What ends it is raised after the finals are out."""
        ending: VoiceForgeError | None = None
        settings, asr = self._session_settings(), self._asr_stream()
        vad = self._services.engine.vad_stream()
        session = LiveSession(
            settings, self._config.audio_format, vad, asr, self._services.metrics, self._on_event,
            max_backlog_s=self._settings.max_backlog_s,
        )  # fmt: skip
        async with session:
            self._session = session
            reader = asyncio.create_task(self._read(session), name="reader")
            drain = asyncio.create_task(self._draining.wait(), name="drain")
            try:
                await asyncio.wait({reader, drain}, return_when=asyncio.FIRST_COMPLETED)
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
            session.close()
            await session.finished.wait()
        if ending:
            raise ending

    async def _read(self, session: LiveSession) -> None:
        """Carries out what the client sends; returns when it closes the stream. Raises what ends the session."""
        limits, loop = self._settings, asyncio.get_running_loop()
        whole, quiet = asyncio.timeout(limits.max_session_s), asyncio.timeout(limits.no_data_timeout_s)
        try:
            async with whole, quiet:
                while True:
                    frame = await self._ws.recv()
                    quiet.reschedule(None)  # waiting for the engine is not the client's silence
                    if not await self._carry_out(session, frame):
                        return
                    quiet.reschedule(loop.time() + limits.no_data_timeout_s)
        except TimeoutError:
            if whole.expired():
                raise SessionTooLong(f"a session may last {limits.max_session_s:.0f} s; open a new one") from None
            raise NoData(
                f"neither audio nor keep_alive came for {limits.no_data_timeout_s:.0f} s; "
                "send keep_alive while there is no audio"
            ) from None

    async def _carry_out(self, session: LiveSession, frame: str | bytes) -> bool:
        """False when the client closes the stream. What is wrong with one message is told, and the stream goes on."""
        limit = self._settings.max_frame_bytes
        if len(frame) > limit * (1 if isinstance(frame, bytes) else 2):
            raise MessageTooBig(f"a frame of {len(frame)} bytes is over the limit of {limit}; send smaller pieces")
        try:
            match self._protocol.parse(frame):
                case Audio(data):
                    await session.feed(data)
                case Configure(config):
                    self._configure(session, config)
                case Finalize():
                    session.finalize()
                case KeepAlive():
                    pass
                case CloseStream():
                    return False
        except VoiceForgeError as error:
            if error.fatal:
                raise
            self._tell_error(error)
        return True

    def _configure(self, session: LiveSession, config: StreamConfig) -> None:
        """Raises `InvalidConfig` and keeps the old settings when audio has begun and more than its format would change."""
        old, self._config = self._config, config
        try:
            if session.core.received == 0:
                session.restart(self._session_settings(), config.audio_format, self._asr_stream())
            else:
                late = [n for n in SET_BEFORE_AUDIO if getattr(config, n) != getattr(old, n)]
                if late:
                    raise InvalidConfig(f"{', '.join(late)} can only be set before the first audio; open a new connection")
                if config.audio_format != old.audio_format:
                    session.change_format(config.audio_format)
        except VoiceForgeError:
            self._config = self._protocol.config = old
            raise
        self._outbox.put({"type": "configured", **self._described(), "timestamp": now()})

    # --- settings and messages ------------------------------------------------------------------------------------

    @property
    def _model(self) -> str:
        return self._config.model or self._services.default_model

    def _session_settings(self) -> SessionSettings:
        return SessionSettings(
            vad=replace(VadSettings(), endpoint=self._config.endpointing_ms * RATE // 1000),
            vad_enabled=self._config.vad_enabled,
            interim_results=self._config.interim_results,
            max_segment=self._max_segment_s * RATE,
        )

    @property
    def _max_segment_s(self) -> int:
        return self._services.window_s(self._model) - MARGIN_S

    def _asr_stream(self) -> AsrStream:
        return self._services.engine.asr_stream(self._model, self._config.language)

    def _described(self) -> dict[str, Any]:
        config = self._config.model_dump() | {"model": self._model}
        return {"config": config, "not_in_effect": self._config.not_in_effect()}

    def _ready(self) -> dict[str, Any]:
        limits = {
            "max_frame_bytes": self._settings.max_frame_bytes,
            "no_data_timeout_s": self._settings.no_data_timeout_s,
            "max_session_s": self._settings.max_session_s,
            "max_segment_s": self._max_segment_s,
        }
        head = {"type": "ready", "session_id": self.session_id, "model": self._model}
        return {**head, **self._described(), "limits": limits, "timestamp": now()}

    def _closed(self, reason: str) -> dict[str, Any]:
        audio_s = round(self._session.seconds, 3) if self._session else 0.0
        totals = {
            "audio_s": audio_s,
            "speech_s": seconds(self._speech),
            "interims": self._n_interims,
            "finals": self._n_finals,
        }
        return {"type": "closed", "session_id": self.session_id, **totals, "reason": reason, "timestamp": now()}

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Final):
            self._n_finals += 1
            self._speech += event.end - event.start
        elif isinstance(event, Partial):
            self._n_interims += 1
        told = message(event, now())
        if told is not None:
            self._outbox.put(told)

    def _tell_error(self, error: VoiceForgeError) -> None:
        self._services.metrics.errors.labels(error.code).inc()
        if isinstance(error, EngineRejected):
            log.error("session %s: %s", self.session_id, error)
        self._outbox.put(error_message(error, now()))

    def _count(self, reason: str) -> None:
        self._services.metrics.closed.labels(reason).inc()
