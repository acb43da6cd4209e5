"""What is heard of an utterance: all or a piece, with others before or behind it, in another place, pace and voice."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from export.nano import augment, corpus
from export.nano.curriculum import Curriculum
from export.nano.sounds import Sounds
from export.nano.synth import PAUSES, SAMPLE_RATE, Span

NUMBERS = frozenset(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty"]
)
CUT_S = 0.05
"""Deviation of a cut from where one word ends and the next one begins: nobody knows exactly."""


@dataclass
class Example:
    audio: npt.NDArray[np.float32]
    text: str
    phones: list[Span]
    words: list[Span]
    timed: bool
    complete: bool = True
    language: str = "en"
    recorded: bool = False
    before: str = ""
    """What was said before, as far as it is told."""


class Examples:
    """`recorded` are recordings of people, which are spliced where they have word times; `sounds` are heard behind
    speech."""

    def __init__(self, recorded: list[corpus.Item], sounds: Sounds | None = None) -> None:
        self._sounds = sounds
        self.spoken_by: dict[str, list[corpus.Item]] = defaultdict(list)
        self.aligned: dict[str, list[corpus.Item]] = defaultdict(list)
        for item in recorded:
            self.spoken_by[item.voice].append(item)
            if len(item.words) > 1:
                self.aligned[item.voice].append(item)

    def made_of(
        self, r: np.random.Generator, item: corpus.Item, same_voice: list[corpus.Item], everybody: list[corpus.Item],
        c: Curriculum,
    ) -> Example:  # fmt: skip
        audio, text, words = self.spoken(r, item, c)
        real = item.voice in self.spoken_by
        e = Example(audio, text, self._labels(item), words, bool(item.phones), language=item.language, recorded=real)
        if c.easy_only:
            return e
        if r.random() < 0.04:
            return replace(self._noise_only(r, c), language=item.language)
        while r.random() < c.joined:
            pool = same_voice if r.random() < 0.7 else everybody
            other = pool[int(r.integers(len(pool)))]
            if len(e.audio) + other.n_samples > 11 * SAMPLE_RATE:
                break
            audio, text, words = self.spoken(r, other, c)
            labels, begin = self._labels(other), 0.0
            gap = int(r.uniform(0.0, 0.5) * SAMPLE_RATE)
            if r.random() < c.closed_up:
                gap, begin = 0, _heard(labels, words, audio)[0]
                end = _heard(e.phones, e.words, e.audio)[1]
                e.audio = e.audio[: int(end * SAMPLE_RATE)]
                e.phones = [(n, a, min(b, end)) for n, a, b in e.phones if a < end]
            shift = (len(e.audio) + gap) / SAMPLE_RATE - begin
            later = lambda spans: [(n, max(a, begin) + shift, b + shift) for n, a, b in spans if b > begin]  # noqa: B023, E731 - used at once
            e.audio = joined(e.audio, np.concatenate([np.zeros(gap, np.float32), audio[int(begin * SAMPLE_RATE) :]]))
            e.text += " " + text
            e.phones += later(labels)
            e.words += later(words)
            e.timed = e.timed and bool(other.phones)
        if r.random() < 0.5:
            factor = r.uniform(0.88, 1.14)
            e.audio = augment.speed(e.audio, factor)
            e.phones = [(n, a / factor, b / factor) for n, a, b in e.phones]
            e.words = [(n, a / factor, b / factor) for n, a, b in e.words]
        if e.words and len(e.words) == len(e.text.split()) and len(e.words) > 3:
            if r.random() < c.single:
                self._single(r, e)
            elif r.random() < c.cut_off:
                self._cut_off(r, e, c.prompted)
            if len(e.words) > 3 and r.random() < 0.25:
                self._cut(r, e)
        before, after = (int(r.exponential(0.25) * SAMPLE_RATE) for _ in range(2))
        if r.random() < 0.3:
            before = 0
        e.audio = np.concatenate(
            [np.zeros(min(before, 16000), np.float32), e.audio, np.zeros(min(after, 16000), np.float32)]
        )
        shift = min(before, 16000) / SAMPLE_RATE
        e.phones = [(n, a + shift, b + shift) for n, a, b in e.phones]
        if not e.before and r.random() < 0.15 * c.prompted:
            e.before = everybody[int(r.integers(len(everybody)))].text
        loudest_db = 15 if r.random() < c.noisy else 35
        crowd = self._crowd(r, len(e.audio), everybody) if r.random() < c.crowd else None
        behind = self._recorded_noise(r, len(e.audio), c) if crowd is None else crowd
        e.audio = augment.distort(r, e.audio, c.distort, c.quietest_db, loudest_db, behind)
        return e

    def _recorded_noise(self, r: np.random.Generator, n: int, c: Curriculum) -> npt.NDArray[np.float32] | None:
        return self._sounds.noise(r, n) if self._sounds and r.random() < c.sounds else None

    def _crowd(self, r: np.random.Generator, n: int, everybody: list[corpus.Item]) -> npt.NDArray[np.float32]:
        """Three to eight who talk at the same time, (n,)."""
        out = np.zeros(n, np.float32)
        for _ in range(int(r.integers(3, 9))):
            said = everybody[int(r.integers(len(everybody)))].audio()[:n].astype(np.float32)
            at = int(r.integers(0, max(1, n - len(said) // 2)))
            said = said[: n - at] * (r.uniform(0.3, 1.0) / (np.abs(said).max() + 1.0))
            out[at : at + len(said)] += said
        return out + 1e-4 * r.standard_normal(n).astype(np.float32)

    def spoken(
        self, r: np.random.Generator, item: corpus.Item, c: Curriculum
    ) -> tuple[npt.NDArray[np.float32], str, list[Span]]:
        """Audio, text and words of an utterance. Of a recording now and then its beginning and the end of another one by the
        same speaker: there are so few recordings that their sentences would be learned by heart."""
        audio = item.audio().astype(np.float32) / 32768
        others = self.aligned[item.voice]
        if len(item.words) < 2 or not others or r.random() >= c.spliced:
            return audio, item.text, list(item.words)
        other = others[int(r.integers(len(others)))]
        k, j = int(r.integers(1, len(item.words))), int(r.integers(1, len(other.words)))
        rest = other.audio().astype(np.float32) / 32768
        at, begin = _between(audio, item.words, k), _between(rest, other.words, j)
        seam, shift = at / SAMPLE_RATE, (at - begin) / SAMPLE_RATE
        words = [(w, a, min(b, seam)) for w, a, b in item.words[:k]]
        words += [(w, max(a + shift, seam), b + shift) for w, a, b in other.words[j:]]
        return joined(audio[:at], rest[begin:]), " ".join([*item.text.split()[:k], *other.text.split()[j:]]), words

    def _labels(self, item: corpus.Item) -> list[Span]:
        engine = item.voice.split(":")[0].replace("festival", "flite")
        return [("pau" if n in PAUSES else f"{engine}/{n}", a, b) for n, a, b in item.phones]

    def _cut(self, r: np.random.Generator, e: Example) -> None:
        """Ends the audio inside or right after a word, as a partial hears it; the text keeps the words that are whole."""
        k = int(r.integers(2, len(e.words)))
        at = e.words[k - 1][2] + (r.uniform(0.0, 0.8) * (e.words[k][2] - e.words[k - 1][2]) if r.random() < 0.6 else 0.03)
        heard = k
        e.audio = e.audio[: int(at * SAMPLE_RATE)]
        e.phones = [(n, a, min(b, at)) for n, a, b in e.phones if a < at]
        e.text = " ".join(e.text.split()[:heard]).rstrip(".,?!")
        e.words, e.complete = e.words[:heard], False

    def _cut_off(self, r: np.random.Generator, e: Example, prompted: float) -> None:
        """Begins the audio between two words, more or less, as the window behind a cut in long speech does."""
        k = int(r.integers(1, len(e.words) - 2))
        middle = (e.words[k - 1][2] + e.words[k][1]) / 2
        at = min(max(middle + r.normal(0, CUT_S), e.words[k - 1][1] + 0.05), e.words[k][1] + 0.05)
        e.audio = e.audio[int(at * SAMPLE_RATE) :]
        later = lambda spans: [(n, max(0.0, a - at), b - at) for n, a, b in spans if b > at]  # noqa: E731 - used at once
        e.phones, e.words = later(e.phones), later(e.words[k:])
        said = e.text.split()
        e.text = " ".join(said[k:])
        if r.random() < prompted:
            e.before = " ".join(said[:k])

    def _single(self, r: np.random.Generator, e: Example) -> None:
        """Cuts out a word or two."""
        numbers = [k for k, (name, _, _) in enumerate(e.words) if name.strip(".,?!").lower() in NUMBERS]
        k = int(r.choice(numbers)) if numbers and r.random() < 0.8 else int(r.integers(len(e.words)))
        last = min(len(e.words), k + (2 if r.random() < 0.25 else 1))
        begin, end = max(0.0, e.words[k][1] - 0.03), e.words[last - 1][2] + 0.03
        e.audio = e.audio[int(begin * SAMPLE_RATE) : int(end * SAMPLE_RATE)].copy()
        fade = min(len(e.audio) // 4, SAMPLE_RATE // 100)
        if fade:
            ramp = np.linspace(0, 1, fade, dtype=np.float32)
            e.audio[:fade] *= ramp
            e.audio[-fade:] *= ramp[::-1]
        text = " ".join(e.text.split()[k:last]).strip(".,?!;:")
        later = lambda spans: [(n, max(0.0, a - begin), b - begin) for n, a, b in spans if b > begin and a < end]  # noqa: E731
        e.phones, e.words, e.text = later(e.phones), later(e.words[k:last]), text[:1].upper() + text[1:] + "."

    def _noise_only(self, r: np.random.Generator, c: Curriculum) -> Example:
        n = int(r.uniform(0.5, 6) * SAMPLE_RATE)
        level = 10 ** r.uniform(-4.5, -1.0) if r.random() < 0.8 else 0.0
        noise = self._recorded_noise(r, n, c)
        noise = augment.coloured_noise(r, n) if noise is None else noise
        return Example(np.clip(noise * level, -1, 1), "", [("pau", 0.0, n / SAMPLE_RATE)], [], False)


FADE = SAMPLE_RATE // 200


def joined(head: npt.NDArray[np.float32], tail: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One behind the other, faded for 5 ms on both sides."""
    n = min(FADE, len(head), len(tail))
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    return np.concatenate([head[: len(head) - n], head[len(head) - n :] * ramp[::-1], tail[:n] * ramp, tail[n:]])


def _heard(phones: list[Span], words: list[Span], audio: npt.NDArray[np.float32]) -> tuple[float, float]:
    """From when to when somebody speaks, in seconds; all of it where nobody knows."""
    spans = [p for p in phones if p[0] != "pau"] or words
    return (max(0.0, spans[0][1]), spans[-1][2]) if spans else (0.0, len(audio) / SAMPLE_RATE)


def _between(audio: npt.NDArray[np.float32], words: list[Span], k: int) -> int:
    """The quietest sample near the gap before word `k`: word times are off by some 50 ms."""
    middle = round((words[k - 1][2] + words[k][1]) / 2 * SAMPLE_RATE)
    reach = SAMPLE_RATE // 16
    first = max(0, min(middle, len(audio)) - reach)
    power = np.convolve(audio[first : middle + reach] ** 2, np.ones(SAMPLE_RATE // 100, np.float32), "same")
    return first + int(np.argmin(power)) if len(power) else min(middle, len(audio))
