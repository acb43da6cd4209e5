"""`SessionCore`: one stream of speech from samples to events, without I/O, clock or audio.

It takes "so many samples arrived", "these are the probabilities", "this is the hypothesis", "finalize", "close", and
returns effects. One VAD request and one decode are under way at a time. Segments that have ended are decoded first and
are never dropped; then a running segment that has grown too long is cut; then, in the first silence, its final is
decoded ahead of the endpoint; partials come last and give way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import accumulate
from typing import Literal

from frontend.speech import words as told_words
from frontend.speech.events import (
    Decode,
    Effect,
    Emit,
    Final,
    Finished,
    Flushed,
    Hypothesis,
    NothingSaid,
    Partial,
    RunAsr,
    RunVad,
    SpeechEnded,
    SpeechStarted,
    UtteranceEnded,
    Word,
)
from frontend.speech.segmenter import best_gap
from frontend.speech.stabilizer import Stabilizer, StabilizerSettings
from frontend.speech.vad_gate import FRAME, Started, VadGate, VadSettings

RATE = 16_000


@dataclass(frozen=True)
class SessionSettings:
    """Samples, unless named otherwise."""

    vad: VadSettings = field(default_factory=VadSettings)
    stable: StabilizerSettings = field(default_factory=StabilizerSettings)
    vad_enabled: bool = True
    interim_results: bool = True
    speculate: bool = True
    """Decode the final as soon as the silence after speech is as long as the segment's tail, publish it at the endpoint."""
    first_partial: int = 2_560
    """Speech heard before the first partial: 160 ms, about a syllable; less is guessing."""
    partial_interval: int = 8_000
    patience: float = 2.0
    """The interval is at least so many times what the last partials took to come: they give way when the engine is busy."""
    max_segment: int = 11 * RATE
    """Where speech without a pause is cut at the latest; one second below what the model's window holds."""
    split_after: int = 4 * RATE
    """In a segment longer than this a pause no longer than the tail is enough to part it, when speech goes on behind it:
    its final is there already, and short windows are cheaper and no worse."""
    vad_chunk: int = 3 * FRAME
    """Frames collected before a VAD request while nothing is about to change: fewer requests, 96 ms of delay at most."""
    utterance_end: int | None = None
    """Silence after the last word that is told as `UtteranceEnded`; it ends a segment too."""
    find_language: Literal["never", "once", "each"] = "never"
    """Whether the streams' language is to be found, once or for each utterance."""
    language_from: int = RATE
    """A language found in less audio than this is not relied on."""
    context_tokens: int = 100
    """Of what was said before a cut, told to the model as its prompt."""


class _Kind(Enum):
    PARTIAL = auto()
    AHEAD = auto()
    """The final of a segment that has not ended yet, and may not."""
    CUT = auto()
    FINAL = auto()


@dataclass
class _Segment:
    start: int
    speech_start: int
    settled: Stabilizer
    number: int = 0
    """Given at the first decode, so that numbers grow in the order of speech."""
    probabilities: list[float] = field(default_factory=list[float])
    """Of the frames from `heard_from` on."""
    heard_from: int = 0
    decoded_to: int = 0
    """End of the last partial's window; the start of speech before the first."""
    n_partials: int = 0
    context: tuple[int, ...] = ()
    language: str | None = None
    ahead: tuple[int, Hypothesis] | None = None
    """The final decoded ahead: the window's end, and the answer."""
    asked_ahead: int = 0
    end: int | None = None
    """Set when it has ended and waits for its final."""
    speech_end: int = 0
    needed: int = 0
    """What had been heard when it ended."""
    requested: bool = False
    owed: bool = False
    """A final is expected even if nothing was said."""
    parted: bool = False
    """Speech went on behind it."""
    dropped: bool = False

    def trim(self, leave: float, pre_roll: int) -> None:
        """Gives up silence at the beginning but for the pre-roll: behind a cut there may be a lot."""
        onset = next((i for i, p in enumerate(self.probabilities) if p >= leave), len(self.probabilities))
        n = onset - -(-pre_roll // FRAME)
        if n > 0:
            self.forget(self.heard_from + n * FRAME)
            self.start = max(self.start, self.heard_from)

    def forget(self, before: int) -> None:
        """Drops the probabilities of whole frames before a sample."""
        n = max(0, (before - self.heard_from) // FRAME)
        self.heard_from += n * FRAME
        del self.probabilities[:n]


@dataclass(frozen=True)
class _Running:
    """The decode under way. `received`: samples at hand when it was asked for."""

    request: RunAsr
    kind: _Kind
    segment: _Segment
    received: int


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
        self._ended: deque[_Segment] = deque()
        self._since = 0
        """Where the running segment began, whatever was cut from it since."""
        self._n_segments = 0
        self._floor = 0
        """No segment may begin before this sample: the end of the last one."""
        self._asr: _Running | None = None
        self._lag = 0.0
        """How long partials take to come, in samples that arrived meanwhile; smoothed."""
        self._language: str | None = None
        self._words_end: int | None = None
        """End of the last word told, until `UtteranceEnded` has been told of it."""
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
        running, self._asr = self._asr, None
        assert running is not None
        effects: list[Effect] = []
        if running.segment.dropped:
            pass
        elif running.kind is _Kind.CUT:
            effects += self._cut(running, hypothesis or Hypothesis(""))
        elif running.kind is _Kind.FINAL:
            self._ended.popleft()
            effects += self._settle(running.segment, running.request, hypothesis or Hypothesis(""))
        else:
            if running.kind is _Kind.PARTIAL:
                running.segment.decoded_to = running.request.end
                running.segment.n_partials += 1
            self._lag = 0.7 * self._lag + 0.3 * (self.received - running.received)
            if hypothesis:
                effects += self._partial(running, hypothesis)
        return [*effects, *self._advance()]

    def postponed(self) -> None:
        """The partial just asked for has no place in the engine; the next call asks again, with what is heard by then."""
        assert self._asr is not None
        assert self._asr.kind is _Kind.PARTIAL
        self._asr = None

    def resumed(self) -> list[Effect]:
        """There is a place for a partial, should one be due still."""
        return self._advance()

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
        candidates += [s.start for s in self._ended]
        if self._segment:
            candidates.append(self._segment.start)
        if self._asr:
            candidates.append(self._asr.request.start)
        return min(candidates)

    @property
    def backlog(self) -> int:
        """Samples that the engine is behind: not yet heard, or in segments whose final is not out.

        What tells a shell to stop reading. The running segment does not count while it is not to be cut.
        """
        behind = [self._gate.position, *(s.start for s in self._ended)]
        if self._segment:
            behind.append(self._segment.start + self.settings.max_segment)
        return self.received - min(behind)

    @property
    def running_finals(self) -> int:
        """Finals queued or under way."""
        return len(self._ended) + (self._asr is not None and self._asr.segment is self._segment and self._is_cut)

    @property
    def _is_cut(self) -> bool:
        return self._asr is not None and self._asr.kind is _Kind.CUT

    # --- hearing --------------------------------------------------------------------------------------------------

    def _advance(self) -> list[Effect]:
        effects: list[Effect] = []
        while not self._vad_busy:
            waiting = (self._flushes[0].at if self._flushes else self.received) - self._vad_asked
            n = waiting // FRAME * FRAME
            if self._flushes and n == 0:  # a rest of less than a frame is not heard, but belongs to what is flushed
                effects += self._flush(self._flushes.popleft())
            elif n < self._chunk:
                break
            else:
                effects += self._listen(n)
        effects += self._pump()
        effects += self._silence()
        if self._closing and not self.finished and not (self._flushes or self._asr or self._ended or self._vad_busy):
            self.finished = True
            effects.append(Emit(Finished()))
        return effects

    @property
    def _chunk(self) -> int:
        """Frames to collect before asking the VAD: one where an endpoint may be near."""
        ending = self._gate.speaking and self._gate.position > self._gate.last_speech
        return FRAME if ending or self._flushes or not self.settings.vad_enabled else self.settings.vad_chunk

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
            last_speech = self._gate.last_speech
            for change in self._gate.feed([p]):
                if isinstance(change, Started):
                    effects += self._open(change.at)
                else:
                    effects += self._end_speech(change.at)
            if self._segment:
                paused = self._gate.position - FRAME - last_speech >= self.settings.vad.tail
                if paused and self._gate.last_speech > last_speech:
                    self._part(last_speech)
                self._segment.probabilities.append(p)
                silence = self._gate.position - self._gate.last_speech
                if self.settings.utterance_end is not None and silence >= self.settings.utterance_end:
                    self._gate.interrupt()
                    effects += self._end_speech(self._gate.last_speech)
        return effects

    def _open(self, at: int) -> list[Effect]:
        at = max(at, self._floor)  # a flush may have ended within the frame
        start = max(self._floor, at - self.settings.vad.pre_roll, 0)
        self._begin(start, at, self._language)
        return [Emit(SpeechStarted(at))]

    def _begin(self, start: int, speech_start: int, language: str | None) -> None:
        """A new running segment; the probability of this frame is to follow."""
        segment = _Segment(start, speech_start, Stabilizer(self.settings.stable), decoded_to=speech_start, language=language)
        n = max(0, (self._gate.position - start) // FRAME - 1)
        segment.probabilities, segment.heard_from = [1.0] * n, self._gate.position - (n + 1) * FRAME
        self._segment, self._since = segment, speech_start

    def _part(self, last_speech: int) -> None:
        """Speech goes on after a pause: a segment that is long enough ends before it, another one begins."""
        segment = self._segment
        assert segment is not None
        if last_speech - self._since < self.settings.split_after or not self.settings.vad_enabled:
            return
        resumed = self._gate.position - FRAME
        segment.parted = True
        self._end(last_speech + self.settings.vad.tail, last_speech)
        self._begin(max(self._floor, resumed - self.settings.vad.pre_roll), resumed, segment.language)

    def _end_speech(self, at: int) -> list[Effect]:
        self._end(min(self._gate.position, at + self.settings.vad.tail), at)
        return [Emit(SpeechEnded(at))]

    def _end(self, end: int, speech_end: int) -> None:
        """The running segment waits for its final."""
        segment, self._segment = self._segment, None
        assert segment is not None
        segment.end, segment.speech_end, segment.needed = end, speech_end, self._gate.position
        self._floor = end
        self._ended.append(segment)

    def _flush(self, flush: _Flush) -> list[Effect]:
        """Answers everything before a finalize or close; the VAD has heard all of it but less than a frame."""
        effects: list[Effect] = []
        if flush.discard:
            if self._segment:
                self._segment.dropped = True
            self._segment = None
        elif self._segment is None and (started := self._gate.hint()):
            effects += self._open(started.at)
        answered = self._segment is not None
        if self._segment is not None:
            speech_end = min(flush.at, self._gate.last_speech) if self.settings.vad_enabled else flush.at
            self._segment.requested, self._segment.owed = True, flush.requested
            self._end(min(flush.at, speech_end + self.settings.vad.tail), speech_end)
            self._ended[-1].needed = flush.at
            effects.append(Emit(SpeechEnded(speech_end)))
        self._gate.interrupt()
        self._floor = max(self._floor, self._gate.position)
        if flush.requested or flush.discard:
            effects.append(Emit(Flushed(self._floor, flush.discard, answered)))
        if flush.requested and not answered:
            nothing = _Segment(self._floor, self._floor, Stabilizer(self.settings.stable), requested=True, owed=True)
            nothing.end = nothing.speech_end = self._floor
            nothing.needed = flush.at
            self._ended.append(nothing)
        return effects

    # --- decoding -------------------------------------------------------------------------------------------------

    def _pump(self) -> list[Effect]:
        """Starts the next decode; what needs none is answered without asking."""
        effects: list[Effect] = []
        while self._asr is None and self._ended:
            segment = self._ended[0]
            assert segment.end is not None
            self._trim(segment)
            if segment.speech_end <= segment.start or segment.start >= segment.end:
                self._ended.popleft()
                if segment.owed:
                    request = RunAsr(Decode.FINAL, self._number(segment), segment.start, segment.start)
                    effects += self._settle(segment, request, Hypothesis(""))
                elif not segment.parted:
                    effects.append(Emit(NothingSaid(segment.end)))
            elif segment.end - segment.start >= self.settings.max_segment:
                effects += self._decode(segment, _Kind.CUT, segment.start + self.settings.max_segment)
            elif segment.ahead and segment.ahead[0] == segment.end:
                self._ended.popleft()
                request = RunAsr(Decode.FINAL, segment.number, segment.start, segment.end)
                effects += self._settle(segment, request, segment.ahead[1])
            else:
                effects += self._decode(segment, _Kind.FINAL, segment.end)
        segment = self._segment
        if self._asr is None and segment:
            self._trim(segment)
            effects += self._decode_running(segment)
        return effects

    def _decode_running(self, segment: _Segment) -> list[Effect]:
        position, last_speech, tail = self._gate.position, self._gate.last_speech, self.settings.vad.tail
        longest = segment.start + self.settings.max_segment
        if position >= longest and (last_speech + tail >= longest or not self.settings.vad_enabled):
            return self._decode(segment, _Kind.CUT, longest)
        if last_speech <= segment.start and self.settings.vad_enabled:
            return []
        ends_later = self.settings.vad.endpoint > tail and self.settings.vad_enabled
        if self.settings.speculate and ends_later and position - last_speech >= tail:
            if segment.asked_ahead == last_speech:
                return []
            segment.asked_ahead = last_speech
            return self._decode(segment, _Kind.AHEAD, last_speech + tail)
        if self.settings.interim_results and self._partial_due(segment):
            return self._decode(segment, _Kind.PARTIAL, min(position, longest))
        return []

    def _partial_due(self, segment: _Segment) -> bool:
        """New speech enough since the last one, and speech still going on (silence adds nothing to a partial)."""
        interval = max(self.settings.partial_interval, round(self.settings.patience * self._lag))
        wanted = interval if segment.n_partials else self.settings.first_partial
        speaking = self._gate.position - self._gate.last_speech <= 2 * FRAME or not self.settings.vad_enabled
        return speaking and self._gate.position - segment.decoded_to >= wanted

    def _decode(self, segment: _Segment, kind: _Kind, end: int) -> list[Effect]:
        command = Decode.PARTIAL if kind is _Kind.PARTIAL else Decode.FINAL
        request = RunAsr(
            command, self._number(segment), segment.start, end, segment.settled.tokens, segment.context, segment.language
        )
        self._asr = _Running(request, kind, segment, self.received)
        return [request]

    def _number(self, segment: _Segment) -> int:
        if segment.number == 0:
            self._n_segments += 1
            segment.number = self._n_segments
        return segment.number

    def _trim(self, segment: _Segment) -> None:
        if self.settings.vad_enabled:
            segment.trim(self.settings.vad.leave, self.settings.vad.pre_roll)

    # --- answers --------------------------------------------------------------------------------------------------

    def _partial(self, running: _Running, h: Hypothesis) -> list[Effect]:
        """A partial, or a final decoded ahead, which is a partial as well while speech may go on."""
        segment, request = running.segment, running.request
        self._find_language(segment, request, h)
        if running.kind is _Kind.AHEAD:
            segment.ahead = request.end, h
        if segment is not self._segment or not self.settings.interim_results or told_words.invented(h):
            return []
        placed = told_words.placed(h.words, request.start)
        if running.kind is _Kind.PARTIAL:
            kept = self._heard_words(placed, segment)
            n_heard = next((i for i, (a, b) in enumerate(zip(placed, kept, strict=False)) if a is not b), len(kept))
            segment.settled.update(h, request.end - request.start, n_heard)
        if not h.text.strip():
            return []
        if placed:
            self._words_end = placed[-1].end
        partial = Partial(
            request.segment, request.start, request.end, h.text.strip(), _confidence(placed, h), h.timings,
            told_words.told(placed), segment.settled.n_words, h.language,
        )  # fmt: skip
        return [Emit(partial)]

    def _settle(self, segment: _Segment, request: RunAsr, h: Hypothesis) -> list[Effect]:
        """The final of a segment that has ended."""
        self._find_language(segment, request, h)
        placed = [] if told_words.invented(h) else told_words.placed(h.words, request.start)
        kept = self._heard_words(placed, segment)
        return self._final(
            segment, request, h, placed, kept, request.end, needed=segment.needed, ends_utterance=not segment.parted
        )

    def _cut(self, running: _Running, h: Hypothesis) -> list[Effect]:
        """Tells the words of a window that was full, up to a gap between two; what follows is decoded again from there."""
        segment, request = running.segment, running.request
        self._find_language(segment, request, h)
        words = told_words.placed(h.words, request.start)
        earliest = request.start + self.settings.max_segment // 2
        at, n = best_gap(segment.probabilities, segment.heard_from, words, earliest, request.end)
        kept = [] if told_words.invented(h) else self._heard_words(words[:n], segment)
        effects = self._final(segment, request, h, words, kept, at, needed=request.end, ends_utterance=False)
        edges = [0, *accumulate(h.word_tokens)]
        settled = segment.settled
        segment.settled = Stabilizer(self.settings.stable, settled.tokens[edges[n] :], max(0, settled.n_words - n))
        segment.context = (segment.context + h.tokens[: edges[n]])[-self.settings.context_tokens :]
        segment.forget(at)
        segment.start = segment.decoded_to = at
        segment.number, segment.ahead, segment.asked_ahead = 0, None, 0
        if segment is self._segment:
            self._floor = at
        return effects

    def _heard_words(self, words: Sequence[Word], segment: _Segment) -> list[Word]:
        """Without words in silence; settled words stay."""
        if not self.settings.vad_enabled:
            return list(words)
        n = segment.settled.n_words
        return [*words[:n], *told_words.heard(words[n:], segment.probabilities, segment.heard_from)]

    def _final(
        self, segment: _Segment, request: RunAsr, h: Hypothesis, placed: Sequence[Word], kept: Sequence[Word], end: int, *,
        needed: int, ends_utterance: bool,
    ) -> list[Effect]:  # fmt: skip
        """`kept` are those of the words `placed` that are told."""
        dropped = len(kept) < len(h.words)
        text = told_words.text_of(kept) if dropped or told_words.invented(h) else h.text.strip()
        requested = segment.requested and ends_utterance  # not by a cut within it
        if not (text or requested):
            return [Emit(NothingSaid(end))] if ends_utterance else []
        if kept:
            self._words_end = kept[-1].end
        final = Final(
            request.segment, request.start, end, text, _confidence(kept, h) if text else 0.0, told_words.told(kept),
            h.timings, requested, ends_utterance, h.language, h.language_probability,
            *(told_words.tokens_of(h, placed, kept) if text else ((), (), ())), h.no_speech_probability, needed,
        )  # fmt: skip
        return [Emit(final)]

    def _find_language(self, segment: _Segment, request: RunAsr, h: Hypothesis) -> None:
        """Keeps a language that was found in enough audio."""
        if self.settings.find_language == "never" or not h.language:
            return
        if request.end - request.start >= self.settings.language_from:
            segment.language = h.language
            if self.settings.find_language == "once":
                self._language = self._language or h.language

    def _silence(self) -> list[Effect]:
        """Tells that no word has come for the time that the client asked about."""
        limit = self.settings.utterance_end
        if limit is None or self._words_end is None or self._ended or self._segment or self._asr:
            return []
        if self._gate.position - self._words_end < limit:
            return []
        at, self._words_end = self._words_end, None
        return [Emit(UtteranceEnded(at))]


def _confidence(words: Sequence[Word], h: Hypothesis) -> float:
    """The mean of the words'; without words the geometric mean of the token probabilities, 0 for no tokens."""
    if words:
        return sum(w.confidence for w in words) / len(words)
    return math.exp(sum(h.logprobs) / len(h.logprobs)) if h.logprobs else 0.0
