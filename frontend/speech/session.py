"""`SessionCore`: one stream of speech from samples to events, without I/O, clock or audio.

It takes "so many samples arrived", "these are the probabilities", "this is the hypothesis", "finalize", "close", and
returns effects. One VAD request and one decode are under way at a time. Segments that have ended are decoded first and
are never dropped; then a running segment that has grown too long is cut; then, in the first silence, its final is
decoded ahead of the endpoint; partials come last and give way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import accumulate

from frontend.speech import words as told_words
from frontend.speech.cuts import best_gap
from frontend.speech.events import (
    Decode,
    Effect,
    Emit,
    Final,
    Finished,
    Hypothesis,
    NothingSaid,
    Partial,
    RunAsr,
    UtteranceEnded,
    Word,
)
from frontend.speech.segmenter import Segment, Segmenter
from frontend.speech.settings import SessionSettings
from frontend.speech.stabilizer import Stabilizer
from frontend.speech.vad_gate import FRAME


class _Kind(Enum):
    PARTIAL = auto()
    AHEAD = auto()
    """The final of a segment that has not ended yet, and may not."""
    CUT = auto()
    FINAL = auto()


@dataclass(frozen=True)
class _Running:
    """The decode under way. `received`: samples at hand when it was asked for."""

    request: RunAsr
    kind: _Kind
    segment: Segment
    received: int


class SessionCore:
    """See the module. Public methods return the effects to carry out, in order."""

    def __init__(self, settings: SessionSettings) -> None:
        self.settings = settings
        self._segments = Segmenter(settings)
        self._n_segments = 0
        self._asr: _Running | None = None
        self._lag = 0.0
        """How long partials take to come, in samples that arrived meanwhile; smoothed."""
        self._words_end: int | None = None
        """End of the last word told, until `UtteranceEnded` has been told of it."""
        self._closing = False
        self.finished = False

    # --- inputs ---------------------------------------------------------------------------------------------------

    def audio(self, n_samples: int) -> list[Effect]:
        """So many more samples of the stream are at hand."""
        self._segments.received += n_samples
        return self._advance()

    def vad_result(self, probabilities: Sequence[float]) -> list[Effect]:
        """The answer to the `RunVad` under way, a probability a frame."""
        return [*self._segments.heard(probabilities), *self._advance()]

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
            self._segments.ended.popleft()
            effects += self._settle(running.segment, running.request, hypothesis or Hypothesis(""))
        else:
            self._lag = 0.7 * self._lag + 0.3 * (self.received - running.received)
            if hypothesis:
                effects += self._partial(running, hypothesis)
            if running.kind is _Kind.PARTIAL:
                running.segment.decoded_to = running.request.end
                running.segment.soon = max(0, running.segment.soon - 1) if hypothesis and not effects else 0
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
        self._segments.flush(requested=True)
        return self._advance()

    def discard(self) -> list[Effect]:
        """Everything received so far that has no final under way is forgotten."""
        self._segments.flush(requested=False, discard=True)
        return self._advance()

    def close(self) -> list[Effect]:
        """No more audio comes; `Finished` is told after the last final."""
        self._segments.flush(requested=False)
        self._closing = True
        return self._advance()

    # --- what the shell may ask -----------------------------------------------------------------------------------

    @property
    def received(self) -> int:
        """Samples of the stream that are at hand, or were."""
        return self._segments.received

    @property
    def needed_from(self) -> int:
        """Audio before this sample will not be asked for again."""
        needed = self._segments.needed_from
        return min(needed, self._asr.request.start) if self._asr else needed

    @property
    def backlog(self) -> int:
        """Samples that the engine is behind: not yet heard, or in segments whose final is not out.

        What tells a shell to stop reading. The running segment does not count while it is not to be cut.
        """
        behind = [self._segments.position, *(s.start for s in self._segments.ended)]
        if self._segments.running:
            behind.append(self._segments.running.start + self.settings.max_segment)
        return self.received - min(behind)

    @property
    def running_finals(self) -> int:
        """Finals queued or under way."""
        asr, segments = self._asr, self._segments
        return len(segments.ended) + (asr is not None and asr.kind is _Kind.CUT and asr.segment is segments.running)

    def _advance(self) -> list[Effect]:
        effects = [*self._segments.advance(), *self._pump(), *self._silence()]
        if self._closing and not self.finished and not (self._asr or self._segments.busy):
            self.finished = True
            effects.append(Emit(Finished()))
        return effects

    # --- decoding -------------------------------------------------------------------------------------------------

    def _pump(self) -> list[Effect]:
        """Starts the next decode; what needs none is answered without asking."""
        effects: list[Effect] = []
        while self._asr is None and self._segments.ended:
            segment = self._segments.ended[0]
            assert segment.end is not None
            self._trim(segment)
            if segment.speech_end <= segment.start or segment.start >= segment.end:
                self._segments.ended.popleft()
                if segment.owed:
                    request = RunAsr(Decode.FINAL, self._number(segment), segment.start, segment.start)
                    effects += self._settle(segment, request, Hypothesis(""))
                elif not segment.parted:
                    effects.append(Emit(NothingSaid(segment.end)))
            elif segment.end - segment.start >= self.settings.max_segment:
                effects += self._decode(segment, _Kind.CUT, segment.start + self.settings.max_segment)
            elif segment.ahead and segment.ahead[0] == segment.end:
                self._segments.ended.popleft()
                request = RunAsr(Decode.FINAL, segment.number, segment.start, segment.end)
                effects += self._settle(segment, request, segment.ahead[1])
            else:
                effects += self._decode(segment, _Kind.FINAL, segment.end)
        segment = self._segments.running
        if self._asr is None and segment:
            self._trim(segment)
            effects += self._decode_running(segment)
        return effects

    def _decode_running(self, segment: Segment) -> list[Effect]:
        position, last_speech, tail = self._segments.position, self._segments.last_speech, self.settings.vad.tail
        longest = segment.start + self.settings.max_segment
        if position >= longest and (last_speech + tail >= longest or not self.settings.vad_enabled):
            return self._decode(segment, _Kind.CUT, longest)
        if last_speech <= segment.start and self.settings.vad_enabled:
            return []
        ends_later = self.settings.vad.endpoint - self.settings.vad.late > tail and self.settings.vad_enabled
        if self.settings.speculate and ends_later and position - last_speech >= tail:
            if segment.asked_ahead == last_speech:
                return []
            segment.asked_ahead = last_speech
            return self._decode(segment, _Kind.AHEAD, last_speech + tail)
        if self.settings.interim_results and self._partial_due(segment):
            return self._decode(segment, _Kind.PARTIAL, min(position, longest))
        return []

    def _partial_due(self, segment: Segment) -> bool:
        """New speech enough since the last one, and speech still going on (silence adds nothing to a partial)."""
        interval = max(self.settings.partial_interval, round(self.settings.patience * self._lag))
        wanted = self.settings.first_partial if segment.soon else interval
        speaking = self._segments.position - self._segments.last_speech <= 2 * FRAME or not self.settings.vad_enabled
        return speaking and self._segments.position - segment.decoded_to >= wanted

    def _decode(self, segment: Segment, kind: _Kind, end: int) -> list[Effect]:
        command = Decode.PARTIAL if kind is _Kind.PARTIAL else Decode.FINAL
        request = RunAsr(
            command,
            self._number(segment),
            segment.start,
            end,
            segment.settled.tokens,
            segment.context,
            segment.language or self._segments.language,  # it may have been found since the segment began
        )
        self._asr = _Running(request, kind, segment, self.received)
        return [request]

    def _number(self, segment: Segment) -> int:
        if segment.number == 0:
            self._n_segments += 1
            segment.number = self._n_segments
        return segment.number

    def _trim(self, segment: Segment) -> None:
        if self.settings.vad_enabled:
            segment.trim(self.settings.vad.leave, self.settings.vad.pre_roll)

    # --- answers --------------------------------------------------------------------------------------------------

    def _partial(self, running: _Running, h: Hypothesis) -> list[Effect]:
        """A partial, or a final decoded ahead, which is a partial as well while speech may go on."""
        segment, request = running.segment, running.request
        self._find_language(segment, request, h)
        if running.kind is _Kind.AHEAD:
            segment.ahead = request.end, h
        if segment is not self._segments.running or not self.settings.interim_results or told_words.invented(h):
            return []
        placed = told_words.placed(h.words, request.start)
        if running.kind is _Kind.PARTIAL:
            kept = self._heard_words(placed, segment)
            n_heard = next((i for i, (a, b) in enumerate(zip(placed, kept, strict=False)) if a is not b), len(kept))
            segment.settled.update(h, request.end - request.start, n_heard)
        likely = told_words.likely(placed, segment.settled.n_words)
        text = h.text.strip() if len(likely) == len(placed) else told_words.text_of(likely)
        if not text:
            return []
        if likely:
            self._words_end = likely[-1].end
        partial = Partial(
            request.segment, request.start, request.end, text, _confidence(likely, h), h.timings,
            told_words.told(likely), segment.settled.n_words, h.language,
        )  # fmt: skip
        return [Emit(partial)]

    def _settle(self, segment: Segment, request: RunAsr, h: Hypothesis) -> list[Effect]:
        """The final of a segment that has ended."""
        self._find_language(segment, request, h)
        placed = [] if _invented(h, segment) else told_words.placed(h.words, request.start)
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
        if n:  # the next window begins at the cut
            words[n - 1] = replace(words[n - 1], end=min(words[n - 1].end, at))
        kept = [] if _invented(h, segment) else self._heard_words(words[:n], segment)
        effects = self._final(segment, request, h, words, kept, at, needed=request.end, ends_utterance=False)
        edges = [0, *accumulate(h.word_tokens)]
        settled = segment.settled
        segment.settled = Stabilizer(self.settings.stable, settled.tokens[edges[n] :], max(0, settled.n_words - n))
        segment.context = (segment.context + h.tokens[: edges[n]])[-self.settings.context_tokens :]
        self._segments.cut(segment, at)
        return effects

    def _heard_words(self, words: Sequence[Word], segment: Segment) -> list[Word]:
        """Without words in silence; settled words stay."""
        if not self.settings.vad_enabled:
            return list(words)
        n = segment.settled.n_words
        return [*words[:n], *told_words.heard(words[n:], segment.probabilities, segment.heard_from)]

    def _final(
        self, segment: Segment, request: RunAsr, h: Hypothesis, placed: Sequence[Word], kept: Sequence[Word], end: int, *,
        needed: int, ends_utterance: bool,
    ) -> list[Effect]:  # fmt: skip
        """`kept` are those of the words `placed` that are told."""
        dropped = len(kept) < len(h.words)
        text = told_words.text_of(kept) if dropped or _invented(h, segment) else h.text.strip()
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

    def _find_language(self, segment: Segment, request: RunAsr, h: Hypothesis) -> None:
        """Keeps a language that was found in enough audio."""
        if self.settings.find_language == "never" or not h.language:
            return
        if request.end - request.start >= self.settings.language_from:
            segment.language = h.language
            if self.settings.find_language == "once":
                self._segments.language = self._segments.language or h.language

    def _silence(self) -> list[Effect]:
        """Tells that no word has come for the time that the client asked about."""
        limit = self.settings.utterance_end
        if limit is None or self._words_end is None or self._segments.ended or self._segments.running or self._asr:
            return []
        if self._segments.position - self._words_end < limit:
            return []
        at, self._words_end = self._words_end, None
        return [Emit(UtteranceEnded(at))]


def _invented(h: Hypothesis, segment: Segment) -> bool:
    """Whether a final is likelier made up than heard. Settled words have been promised: they stay, however unlikely."""
    return segment.settled.n_words == 0 and told_words.invented(h)


def _confidence(words: Sequence[Word], h: Hypothesis) -> float:
    """The mean of the words'; without words the geometric mean of the token probabilities, 0 for no tokens."""
    if words:
        return sum(w.confidence for w in words) / len(words)
    return math.exp(sum(h.logprobs) / len(h.logprobs)) if h.logprobs else 0.0
