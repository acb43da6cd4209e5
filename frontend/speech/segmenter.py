"""From samples and their VAD probabilities to segments of speech: one that runs, and those that wait for their final."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from frontend.speech.events import Effect, Emit, Flushed, Hypothesis, RunVad, SpeechEnded, SpeechStarted
from frontend.speech.settings import SessionSettings
from frontend.speech.stabilizer import Stabilizer
from frontend.speech.vad_gate import FRAME, Started, VadGate


@dataclass
class Segment:
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
    soon: int = 3
    """So many partials are asked for in quick succession while they have no words: the first may have heard too little."""
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
class _Flush:
    """Everything before sample `at` is to be answered; `requested` by a final of its own, else by `Finished`.
    Or to be forgotten, with `discard`."""

    at: int
    requested: bool
    discard: bool = False


class Segmenter:
    """See the module. Methods return the effects to carry out, in order; one VAD request is under way at a time."""

    def __init__(self, settings: SessionSettings) -> None:
        self.settings = settings
        self.received = 0
        self.running: Segment | None = None
        self.ended: deque[Segment] = deque()
        """In the order of speech; whoever gives the first its final takes it away."""
        self.language: str | None = None
        """That segments begin with."""
        self._gate = VadGate(settings.vad)
        self._vad_asked = 0
        self._vad_busy = False
        self._since = 0
        """Where the running segment began, whatever was cut from it since."""
        self._floor = 0
        """No segment may begin before this sample: the end of the last one."""
        self._flushes: deque[_Flush] = deque()

    @property
    def position(self) -> int:
        """Samples heard: in whole frames, each with its probability."""
        return self._gate.position

    @property
    def last_speech(self) -> int:
        """The end of the last frame of speech."""
        return self._gate.last_speech

    @property
    def needed_from(self) -> int:
        """No segment will begin before this sample, nor will the VAD be asked about audio before it."""
        onset = self.settings.vad.pre_roll + self.settings.vad.start_frames * FRAME
        candidates = [self._gate.position, max(self._floor, self._gate.position - onset), *(s.start for s in self.ended)]
        if self.running:
            candidates.append(self.running.start)
        return min(candidates)

    @property
    def busy(self) -> bool:
        """Whether there is more to hear before a flush is answered, or a segment without a final."""
        return bool(self._flushes or self.ended or self._vad_busy)

    def heard(self, probabilities: Sequence[float]) -> list[Effect]:
        """The answer to the `RunVad` under way, a probability a frame."""
        self._vad_busy = False
        return self._heard(probabilities)

    def flush(self, *, requested: bool, discard: bool = False) -> None:
        """Ends what has been received so far; see `_Flush`."""
        self._flushes.append(_Flush(self.received, requested, discard))

    def cut(self, segment: Segment, at: int) -> None:
        """What lies before sample `at` has its final; the segment goes on from there."""
        segment.forget(at)
        segment.start = segment.decoded_to = at
        segment.number, segment.ahead, segment.asked_ahead = 0, None, 0
        if segment is self.running:
            self._floor = at

    def advance(self) -> list[Effect]:
        """Asks about what is at hand, and carries out the flushes it has come to."""
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
            if self.running:
                paused = self._gate.position - FRAME - last_speech >= self.settings.vad.tail
                if paused and self._gate.last_speech > last_speech:
                    self._part(last_speech)
                self.running.probabilities.append(p)
                silence = self._gate.position - self._gate.last_speech
                if self.settings.utterance_end is not None and silence >= self.settings.utterance_end:
                    self._gate.interrupt()
                    effects += self._end_speech(self._gate.last_speech)
        return effects

    def _open(self, at: int) -> list[Effect]:
        at = max(at, self._floor)  # a flush may have ended within the frame
        start = max(self._floor, at - self.settings.vad.pre_roll, 0)
        self._begin(start, at, self.language)
        return [Emit(SpeechStarted(at))]

    def _begin(self, start: int, speech_start: int, language: str | None) -> None:
        """A new running segment; the probability of this frame is to follow."""
        segment = Segment(start, speech_start, Stabilizer(self.settings.stable), decoded_to=speech_start, language=language)
        n = max(0, (self._gate.position - start) // FRAME - 1)
        segment.probabilities, segment.heard_from = [1.0] * n, self._gate.position - (n + 1) * FRAME
        self.running, self._since = segment, speech_start

    def _part(self, last_speech: int) -> None:
        """Speech goes on after a pause: a segment that is long enough ends before it, another one begins."""
        segment = self.running
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
        segment, self.running = self.running, None
        assert segment is not None
        segment.end, segment.speech_end, segment.needed = end, speech_end, self._gate.position
        self._floor = end
        self.ended.append(segment)

    def _flush(self, flush: _Flush) -> list[Effect]:
        """Answers everything before a finalize or close; the VAD has heard all of it but less than a frame."""
        effects: list[Effect] = []
        if flush.discard:
            if self.running:
                self.running.dropped = True
            self.running = None
        elif self.running is None and (started := self._gate.hint()):
            effects += self._open(started.at)
        answered = self.running is not None
        if self.running is not None:
            speech_end = min(flush.at, self._gate.last_speech) if self.settings.vad_enabled else flush.at
            self.running.requested, self.running.owed = True, flush.requested
            self._end(min(flush.at, speech_end + self.settings.vad.tail), speech_end)
            self.ended[-1].needed = flush.at
            effects.append(Emit(SpeechEnded(speech_end)))
        self._gate.interrupt()
        self._floor = max(self._floor, self._gate.position)
        if flush.requested or flush.discard:
            effects.append(Emit(Flushed(self._floor, flush.discard, answered)))
        if flush.requested and not answered:
            nothing = Segment(self._floor, self._floor, Stabilizer(self.settings.stable), requested=True, owed=True)
            nothing.end = nothing.speech_end = self._floor
            nothing.needed = flush.at
            self.ended.append(nothing)
        return effects
