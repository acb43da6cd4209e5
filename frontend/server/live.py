"""Executes the effects of one `SessionCore`: audio in, engine calls, events out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from frontend.audio.ring import AudioRing
from frontend.control.load import EngineLoad
from frontend.errors import EngineRejected, EngineUnavailable, UnknownModel
from frontend.inference.base import AsrStream, Pcm, VadStream
from frontend.observability.metrics import Metrics
from frontend.speech.events import Decode, Effect, Emit, Event, Final, Finished, Hypothesis, Partial, RunAsr, RunVad
from frontend.speech.session import SessionCore
from frontend.speech.settings import RATE, SessionSettings

log = logging.getLogger(__name__)


class LiveSession:
    """One stream of audio. Use as an async context manager: leaving it cancels engine calls and closes the sequences.

    `emit` is called for every event, in order. An engine error that cannot be waited out leaves through the context.
    """

    def __init__(
        self, settings: SessionSettings, vad: VadStream, asr: AsrStream, metrics: Metrics,
        load: EngineLoad, emit: Callable[[Event], object], *, max_backlog_s: float,
    ) -> None:  # fmt: skip
        self.core = SessionCore(settings)
        self._vad, self._asr, self._metrics, self._load, self._emit = vad, asr, metrics, load, emit
        self._ring = AudioRing()
        self._arrivals: list[tuple[int, float]] = []
        """Samples received and when, after each piece of audio and at each request for a final."""
        self._max_backlog = round(max_backlog_s * RATE)
        self._room = asyncio.Event()
        self._room.set()
        self.finished = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._left = False
        self._has_place = False
        """For a partial, and it has not been asked for yet."""
        self._shown = 0
        """The segment of the last partial that had a place."""
        self._reported_backlog = 0.0
        self._reported_finals = 0

    async def __aenter__(self) -> LiveSession:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Raises the error itself rather than the group that a `TaskGroup` makes of it."""
        self._left = True
        self._load.partials.forget(self._place_free)
        if not self.finished.is_set():
            for task in list(self._running):
                task.cancel()
        try:
            await self._tasks.__aexit__(*error)  # type: ignore[arg-type]
        except BaseExceptionGroup as group:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            raise leaf from None
        finally:
            self._report(backlog=0.0, finals=0)
            await self._vad.close()
            await self._asr.close()

    @property
    def received(self) -> int:
        """Samples of audio received."""
        return self.core.received

    async def feed(self, samples: Pcm) -> None:
        """Takes a piece of audio, int16 (n,) at 16 kHz; returns when there is room for the next one."""
        self.append(samples)
        await self._room.wait()

    def append(self, samples: Pcm) -> None:
        """Takes audio, whether there is room or not."""
        self._metrics.audio.inc(len(samples) / RATE)
        self._ring.append(samples)
        self._arrived(self.core.received + len(samples))
        self._carry_out(self.core.audio(len(samples)))

    def restart(self, settings: SessionSettings, asr: AsrStream) -> None:
        """Takes other settings; only before the first sample."""
        assert self.core.received == 0
        self.core, self._asr = SessionCore(settings), asr

    async def rest(self) -> None:
        """Lets go of the engine's sequences once nothing is under way; audio that comes later opens them again."""
        while self._running:
            await asyncio.wait(self._running)
        self._load.partials.forget(self._place_free)
        self._report(backlog=0.0, finals=0)  # the rest of a frame waits for the client, not for the engine
        await self._vad.close()
        await self._asr.close()

    @property
    def size(self) -> int:
        """Bytes of audio held."""
        return self._ring.size

    def finalize(self) -> None:
        self._arrived(self.core.received)
        self._carry_out(self.core.finalize())

    def discard(self) -> None:
        """What was received and has no final under way is forgotten."""
        self._carry_out(self.core.discard())

    def close(self) -> None:
        """No more audio; `finished` is set when every final has been emitted."""
        self._arrived(self.core.received)
        self._carry_out(self.core.close())

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case RunVad():
                    self._start(self._run_vad(effect))
                case RunAsr():
                    self._ask(effect)
                case Emit(event):
                    self._tell(event)
        self._ring.release(self.core.needed_from)
        while self._arrivals and self._arrivals[0][0] < self.core.needed_from:
            del self._arrivals[0]
        backlog = self.core.backlog
        if backlog > self._max_backlog:
            self._room.clear()
        else:
            self._room.set()
        self._report(backlog=backlog / RATE, finals=self.core.running_finals)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _ask(self, request: RunAsr) -> None:
        """A final goes out at once, a partial when there is a place for it."""
        if request.command is Decode.FINAL:
            self._start(self._run_asr(request))
        elif self._has_place or self._load.partials.take(self._place_free, first=request.segment != self._shown):
            self._has_place, self._shown = False, request.segment
            self._start(self._run_asr(request)).add_done_callback(lambda _: self._load.partials.leave())
        else:
            self.core.postponed()

    def _place_free(self) -> None:
        """Called from another session's work, so what follows is put off."""
        asyncio.get_running_loop().call_soon(self._take_place)

    def _take_place(self) -> None:
        self._has_place = True
        if not self._left:
            self._carry_out(self.core.resumed())
        if self._has_place:
            self._has_place = False
            self._load.partials.leave()

    async def _run_vad(self, request: RunVad) -> None:
        began = time.perf_counter()
        with self._counted("vad"):
            probabilities = await self._vad.probabilities(self._ring.read(request.start, request.end))
        self._metrics.vad.observe(time.perf_counter() - began)
        self._carry_out(self.core.vad_result(probabilities))

    async def _run_asr(self, request: RunAsr) -> None:
        began = time.perf_counter()
        audio = self._ring.read(request.start, request.end)
        hypothesis: Hypothesis | None = None
        try:
            with self._counted(self._asr.model) if request.command is Decode.FINAL else nullcontext([]) as computed:
                hypothesis = await self._asr.decode(request, audio)
                computed.append((hypothesis.timings.encode_ms + hypothesis.timings.decode_ms) / 1000)
        except EngineUnavailable as error:
            if request.command is Decode.FINAL:
                raise
            log.info("a partial was skipped: %s", error)
        except (EngineRejected, UnknownModel) as error:
            if request.command is Decode.FINAL:
                raise
            log.warning("a partial was refused: %s", error)
        took = time.perf_counter() - began
        (self._metrics.final if request.command is Decode.FINAL else self._metrics.partial).observe(took)
        self._carry_out(self.core.asr_result(hypothesis))

    @contextmanager
    def _counted(self, kind: str) -> Generator[list[float]]:
        """A request that nobody may skip is under way; takes the seconds that the engine worked on it, where it says so."""
        ticket, computed = self._load.asked(kind), list[float]()
        try:
            yield computed
        finally:
            self._load.answered(ticket, sum(computed))

    def _arrived(self, n_samples: int) -> None:
        self._arrivals.append((n_samples, time.perf_counter()))

    def _lag_ms(self, event: Partial | Final) -> float:
        """As `Timings` says."""
        if isinstance(event, Final) and event.requested:
            at = next(at for n, at in reversed(self._arrivals) if n <= event.needed)
        else:
            needed = event.needed if isinstance(event, Final) else event.end
            at = next(at for n, at in self._arrivals if n >= needed)
        return (time.perf_counter() - at) * 1000

    def _tell(self, event: Event) -> None:
        if isinstance(event, Final | Partial):
            event = replace(event, timings=replace(event.timings, lag_ms=self._lag_ms(event)))
        if isinstance(event, Final):
            self._metrics.finals.inc()
            self._metrics.speech.inc((event.end - event.start) / RATE)
        elif isinstance(event, Partial):
            self._metrics.partials.inc()
        self._emit(event)
        if isinstance(event, Finished):
            self.finished.set()

    def _report(self, *, backlog: float, finals: int) -> None:
        """Moves the gauges that are sums over sessions by this session's change."""
        if backlog != self._reported_backlog:
            self._metrics.backlog.inc(backlog - self._reported_backlog)
        if finals != self._reported_finals:
            self._metrics.finals_waiting.inc(finals - self._reported_finals)
        self._reported_backlog, self._reported_finals = backlog, finals
