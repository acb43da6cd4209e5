"""`SessionCore`: one stream of speech from samples to events, without I/O, clock or audio.

It takes "so many samples arrived", "these are the probabilities", "this is the hypothesis", "finalize", "close", and
returns effects. One VAD request and one decode are under way at a time; finals wait for their turn and are never
dropped, partials are only made when nothing else is to be done.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from frontend.speech.events import (
    Decode,
    Effect,
    Emit,
    Final,
    Finished,
    Hypothesis,
    Partial,
    RunAsr,
    RunVad,
    SpeechEnded,
    SpeechStarted,
)
from frontend.speech.segmenter import best_pause
from frontend.speech.vad_gate import FRAME, Started, VadGate, VadSettings

RATE = 16_000


@dataclass(frozen=True)
class SessionSettings:
    """Samples, unless named otherwise."""

    vad: VadSettings = field(default_factory=VadSettings)
    vad_enabled: bool = True
    interim_results: bool = True
    first_partial: int = 2_560
    """Speech heard before the first partial: 160 ms, about a syllable; less is guessing."""
    partial_interval: int = 8_000
    max_segment: int = 11 * RATE
    """Where speech without a pause is cut at the latest; one second below what the model's window holds."""
    vad_chunk: int = 3 * FRAME
    """Frames collected before a VAD request while speech may be going on: fewer requests, 96 ms of delay at most."""
    no_speech_probability: float = 0.6
    """Above it, with `min_logprob` not reached, a text is taken for invented: Whisper's own thresholds."""
    min_logprob: float = -1.0


@dataclass
class _Segment:
    number: int
    start: int
    speech_start: int
    probabilities: list[float] = field(default_factory=list[float])
    decoded_to: int = 0
    """End of the last partial's window; the start of speech before the first."""
    n_partials: int = 0


@dataclass(frozen=True)
class _PendingFinal:
    request: RunAsr
    requested: bool


@dataclass(frozen=True)
class _Flush:
    """Everything before sample `at` is to be answered; `requested` by a final of its own, else by `Finished`.
    Or to be forgotten, with `discard`."""

    at: int
    requested: bool
    discard: bool = False


class SessionCore:
    """See the module. Public methods return the effects to carry out, in order."""

    def __init__(self, settings: SessionSettings) -> None:
        self.settings = settings
        self.received = 0
        self._gate = VadGate(settings.vad)
        self._vad_asked = 0
        self._vad_busy = False
        self._segment: _Segment | None = None
        self._n_segments = 0
        self._floor = 0
        """No segment may begin before this sample: the end of the last one."""
        self._finals: deque[_PendingFinal] = deque()
        self._asr: RunAsr | None = None
        self._asr_requested = False
        self._flushes: deque[_Flush] = deque()
        self._closing = False
        self.finished = False

    # --- inputs ---------------------------------------------------------------------------------------------------

    def audio(self, n_samples: int) -> list[Effect]:
        """So many more samples of the stream are at hand."""
        self.received += n_samples
        return self._advance()

    def vad_result(self, probabilities: Sequence[float]) -> list[Effect]:
        """The answer to the `RunVad` under way, a probability a frame."""
        self._vad_busy = False
        return [*self._heard(probabilities), *self._advance()]

    def asr_result(self, hypothesis: Hypothesis | None) -> list[Effect]:
        """The answer to the `RunAsr` under way; None when a partial could not be had."""
        request, requested = self._asr, self._asr_requested
        assert request is not None
        self._asr = None
        effects: list[Effect] = []
        if request.command is Decode.FINAL:
            hypothesis = hypothesis or Hypothesis("")
            event = self._final(request, hypothesis, requested)
            if event.text or event.requested:
                effects.append(Emit(event))
        elif hypothesis and self._segment and self._segment.number == request.segment:
            text = hypothesis.text.strip()
            if text and self.settings.interim_results:
                confidence = _confidence(hypothesis.logprobs)
                effects.append(
                    Emit(Partial(request.segment, request.start, request.end, text, confidence, hypothesis.timings))
                )
        return [*effects, *self._advance()]

    def finalize(self) -> list[Effect]:
        """Everything received so far is to be answered by a final now (an empty one if nothing was said)."""
        self._flushes.append(_Flush(self.received, requested=True))
        return self._advance()

    def discard(self) -> list[Effect]:
        """Everything received so far that has no final under way is forgotten."""
        self._flushes.append(_Flush(self.received, requested=False, discard=True))
        return self._advance()

    def close(self) -> list[Effect]:
        """No more audio comes; `Finished` is told after the last final."""
        self._flushes.append(_Flush(self.received, requested=False))
        self._closing = True
        return self._advance()

    # --- what the shell may ask -----------------------------------------------------------------------------------

    @property
    def needed_from(self) -> int:
        """Audio before this sample will not be asked for again."""
        onset = self.settings.vad.pre_roll + self.settings.vad.start_frames * FRAME
        candidates = [self._gate.position, max(self._floor, self._gate.position - onset)]
        candidates += [f.request.start for f in self._finals]
        if self._segment:
            candidates.append(self._segment.start)
        if self._asr:
            candidates.append(self._asr.start)
        return min(candidates)

    @property
    def backlog(self) -> int:
        """Samples that the engine is behind: not yet heard, or in segments whose final is not out.

        What tells a shell to stop reading. The running segment does not count, however long: the engine waits for more.
        """
        behind = [self._gate.position, *(f.request.start for f in self._finals)]
        if self._asr and self._asr.command is Decode.FINAL:
            behind.append(self._asr.start)
        return self.received - min(behind)

    @property
    def running_finals(self) -> int:
        """Finals queued or under way."""
        return len(self._finals) + (self._asr is not None and self._asr.command is Decode.FINAL)

    # --- the machine ----------------------------------------------------------------------------------------------

    def _advance(self) -> list[Effect]:
        effects: list[Effect] = []
        while not self._vad_busy:
            waiting = (self._flushes[0].at if self._flushes else self.received) - self._vad_asked
            n = waiting // FRAME * FRAME
            if self._flushes and n == 0:  # a rest of less than a frame is not heard, but belongs to what is flushed
                effects += self._flush(self._flushes.popleft())
            elif n < (FRAME if self._flushes or not self.settings.vad_enabled else self.settings.vad_chunk):
                break
            else:
                effects += self._listen(n)
        effects += self._pump()
        if self._closing and not self.finished and not (self._flushes or self._asr or self._finals or self._vad_busy):
            self.finished = True
            effects.append(Emit(Finished()))
        return effects

    def _listen(self, n: int) -> list[Effect]:
        """Asks about the next `n` samples; without VAD all of them are speech."""
        start = self._vad_asked
        self._vad_asked += n
        if not self.settings.vad_enabled:
            return self._heard([1.0] * (n // FRAME))
        self._vad_busy = True
        return [RunVad(start, start + n)]

    def _heard(self, probabilities: Sequence[float]) -> list[Effect]:
        effects: list[Effect] = []
        for p in probabilities:
            for change in self._gate.feed([p]):
                if isinstance(change, Started):
                    effects += self._open(change.at)
                else:
                    self._end(min(self._gate.position, change.at + self.settings.vad.tail), change.at)
                    effects.append(Emit(SpeechEnded(change.at)))
            if self._segment:
                self._segment.probabilities.append(p)
                if self._gate.position - self._segment.start >= self.settings.max_segment:
                    self._cut(self._segment)
        return effects

    def _open(self, at: int) -> list[Effect]:
        at = max(at, self._floor)  # a flush may have ended within the frame
        start = max(self._floor, at - self.settings.vad.pre_roll, 0)
        self._segment = self._new_segment(start, at)
        behind = (self._gate.position - start) // FRAME
        self._segment.probabilities = [1.0] * max(0, behind - 1)
        return [Emit(SpeechStarted(at))]

    def _new_segment(self, start: int, speech_start: int) -> _Segment:
        self._n_segments += 1
        return _Segment(self._n_segments, start, speech_start, decoded_to=speech_start)

    def _end(self, end: int, speech_end: int, *, requested: bool = False) -> bool:
        """Ends the running segment; False when it holds no speech (behind a cut) and so gets no final."""
        segment, self._segment = self._segment, None
        assert segment is not None
        if speech_end <= segment.start:
            return False
        self._floor = end
        self._finals.append(_PendingFinal(RunAsr(Decode.FINAL, segment.number, segment.start, end), requested))
        return True

    def _cut(self, segment: _Segment) -> None:
        """Ends a segment that has grown too long at its best pause and goes on behind it without a gap.

        One that holds no speech (a long hang behind a cut) only moves on.
        """
        latest = self._gate.position
        if self._gate.last_speech <= segment.start:
            at = latest - self.settings.vad.pre_roll
            self._n_segments -= 1
        else:
            earliest = segment.start + self.settings.max_segment // 2
            at = best_pause(segment.probabilities, segment.start, earliest, latest)
            final = RunAsr(Decode.FINAL, segment.number, segment.start, at)
            self._finals.append(_PendingFinal(final, requested=False))
        self._floor = at
        following = self._new_segment(at, at)
        following.probabilities = segment.probabilities[(at - segment.start) // FRAME :]
        self._segment = following

    def _flush(self, flush: _Flush) -> list[Effect]:
        """Answers everything before a finalize or close; the VAD has heard all of it but less than a frame."""
        effects: list[Effect] = []
        answered = False
        if flush.discard:
            self._segment = None
        elif self._segment is None and (started := self._gate.hint()):
            effects += self._open(started.at)
        if self._segment is not None:
            speech_end = min(flush.at, self._gate.last_speech) if self.settings.vad_enabled else flush.at
            end = min(flush.at, speech_end + self.settings.vad.tail)
            answered = self._end(end, speech_end, requested=True)
            effects.append(Emit(SpeechEnded(speech_end)))
        self._gate.interrupt()
        self._floor = max(self._floor, self._gate.position)
        if flush.requested and not answered:
            self._n_segments += 1
            nothing = RunAsr(Decode.FINAL, self._n_segments, self._floor, self._floor)
            self._finals.append(_PendingFinal(nothing, requested=True))
        return effects

    def _pump(self) -> list[Effect]:
        """Starts the next decode: finals first; empty windows are answered without asking."""
        effects: list[Effect] = []
        while self._asr is None and self._finals:
            pending = self._finals.popleft()
            if pending.request.start == pending.request.end:
                effects.append(Emit(self._final(pending.request, Hypothesis(""), pending.requested)))
                continue
            self._asr, self._asr_requested = pending.request, pending.requested
            return [*effects, pending.request]
        segment = self._segment
        if self._asr is None and segment and self.settings.interim_results and self._partial_due(segment):
            segment.decoded_to = self._gate.position
            segment.n_partials += 1
            self._asr = RunAsr(Decode.PARTIAL, segment.number, segment.start, self._gate.position)
            self._asr_requested = False
            effects.append(self._asr)
        return effects

    def _partial_due(self, segment: _Segment) -> bool:
        """New speech enough since the last one, and speech still going on (silence adds nothing to a partial)."""
        interval = self.settings.partial_interval if segment.n_partials else self.settings.first_partial
        speaking = self._gate.position - self._gate.last_speech <= 2 * FRAME or not self.settings.vad_enabled
        return speaking and self._gate.position - segment.decoded_to >= interval

    def _final(self, request: RunAsr, h: Hypothesis, requested: bool) -> Final:
        mean = sum(h.logprobs) / len(h.logprobs) if h.logprobs else 0.0
        if h.no_speech_probability > self.settings.no_speech_probability and mean < self.settings.min_logprob:
            h = Hypothesis("", timings=h.timings)
        words = tuple(type(w)(w.text.strip(), request.start + w.start, request.start + w.end, w.confidence) for w in h.words)
        confidence = sum(w.confidence for w in words) / len(words) if words else _confidence(h.logprobs)
        return Final(request.segment, request.start, request.end, h.text.strip(), confidence, words, h.timings, requested)


def _confidence(logprobs: Sequence[float]) -> float:
    """Geometric mean of the token probabilities; 0 for no tokens."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
