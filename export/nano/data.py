"""Training batches: utterances chosen, augmented, turned to log-mel and labels, in a few fixed shapes.

A new tensor shape each step makes oneDNN several times slower, so windows have one of `BUCKETS_S` lengths, and tokens
and phones are padded to what that length allows.
"""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from export.nano import augment, corpus
from export.nano.curriculum import Curriculum
from export.nano.features import log_mel
from export.nano.pools import Pool, next_language
from export.nano.synth import PAUSES, SAMPLE_RATE, Span
from export.nano.tokenizer import languages_of

BUCKETS_S = (2, 3, 4, 5, 6, 8, 12)
LONG_S = 30
NUMBERS = frozenset(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty"]
)
EASY = frozenset({"flite:rms", "flite:slt", "flite:kal16", "espeak:en-us"})
CHARS = " abcdefghijklmnopqrstuvwxyz'"
IGNORE = -100
TIMESTAMP_S = 0.02
CUT_S = 0.05
"""Deviation of a cut from where one word ends and the next one begins: nobody knows exactly."""


def max_tokens(bucket_s: int) -> int:
    return 12 + 9 * min(bucket_s, BUCKETS_S[-1])


def plain(text: str) -> str:
    """Lower case without accents, what the CTC head spells: Où est l'œuf is ou est l'oeuf."""
    text = text.lower().replace("-", " ").replace("ß", "ss").replace("œ", "oe").replace("æ", "ae")
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def phone_table(items: list[corpus.Item]) -> list[str]:
    """All phone labels, each engine's its own; index 0 is silence."""
    names = {f"{i.voice.split(':')[0]}/{p[0]}" for i in items for p in i.phones if p[0] not in PAUSES}
    names = {n.replace("festival/", "flite/") for n in names}
    return ["pau", *sorted(names)]


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


@dataclass
class Batch:
    """mel (B, 80, F); tokens and targets (B, T); phones (B, F/2); chars (B, C) padded with 0 and their lengths (B,)."""

    mel: Tensor
    tokens: Tensor
    targets: Tensor
    phones: Tensor
    chars: Tensor
    char_lengths: Tensor

    def pin_memory(self) -> Batch:
        """What a `DataLoader` asks for, so that the way to a GPU does not keep anybody waiting."""
        return self._each(Tensor.pin_memory)

    def to(self, device: str) -> Batch:
        """The lengths stay where CTC wants them."""
        return replace(self._each(lambda t: t.to(device, non_blocking=True)), char_lengths=self.char_lengths)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(*(change(getattr(self, f.name)) for f in fields(self)))


class Batches(IterableDataset[Batch]):
    """Batches without end, of the utterances that are there by then; each worker of a `DataLoader` has its share of them."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        phones: list[str],
        recorded: list[corpus.Item],
        seed: int,
        stages: list[tuple[int, Curriculum]],
        start: int,
        over: Event | None = None,
    ) -> None:
        """`over` ends them: workers that a `DataLoader` has to end may die of it."""
        self.over = over
        self.folder, self.tokenizer, self.seed, self.recorded = folder, tokenizer, seed, recorded
        self.spoken_by: dict[str, list[corpus.Item]] = defaultdict(list)
        self.aligned: dict[str, list[corpus.Item]] = defaultdict(list)
        for item in recorded:
            self.spoken_by[item.voice].append(item)
            if len(item.words) > 1:
                self.aligned[item.voice].append(item)
        self.phone_id = {p: i for i, p in enumerate(phones)}
        self.stages, self.start = stages, start
        self.prompts: dict[str, list[int]] = {}
        """Of a checkpoint of many languages: what is between the start and `<|notimestamps|>`."""

        def special(token: str) -> int:
            found = tokenizer.token_to_id(token)
            assert found is not None
            return found

        self.eot, self.sot, self.notimes = (
            special("<|endoftext|>"),
            special("<|startoftranscript|>"),
            special("<|notimestamps|>"),
        )
        self.nospeech, self.prev = special("<|nospeech|>"), special("<|startofprev|>")
        if (codes := languages_of(tokenizer)) != ("en",):
            self.prompts = {code: [special(f"<|{code}|>"), special("<|transcribe|>")] for code in codes}

    def __iter__(self):
        torch.set_num_threads(1)
        info = torch.utils.data.get_worker_info()
        worker, n_workers = (info.id, info.num_workers) if info else (0, 1)
        r = np.random.default_rng((self.seed, worker, self.start))
        by_language: dict[str, Pool] = defaultdict(Pool)
        by_voice: dict[str, list[corpus.Item]] = defaultdict(list, {v: list(i) for v, i in self.spoken_by.items()})
        easy, recorded = Pool(), Pool(self.recorded)
        known: set[Path] = set()
        step = self.start + worker
        pools: dict[int, list[Example]] = defaultdict(list)
        while not (self.over and self.over.is_set()):
            curriculum = [c for at, c in self.stages if at <= step][-1]
            for shard in sorted(set(self.folder.glob("*.jsonl")) - known):  # some may still be on their way
                known.add(shard)
                for i in corpus.read_shard(shard, worker, n_workers):
                    by_language[i.language].add(i)
                    by_voice[i.voice].append(i)
                    if i.voice in EASY:
                        easy.add(i)
            if not by_language:
                raise ValueError(
                    f"worker {worker} of {n_workers} has no utterance in {self.folder}; `synthesise` makes them"
                )
            while True:
                code = next_language(r, by_language, curriculum.languages)
                everybody = by_language[code]
                pool = easy if curriculum.easy_only else everybody
                if recorded.items and code == "en" and not curriculum.easy_only and r.random() < curriculum.recorded:
                    pool = recorded
                item = pool.draw(r, curriculum.rare)
                if item.n_samples / SAMPLE_RATE > curriculum.max_s or item.n_samples < 4800:
                    continue
                example = self._example(r, item, by_voice[item.voice], everybody.items, curriculum)
                bucket = next((b for b in BUCKETS_S if len(example.audio) <= b * SAMPLE_RATE), None)
                if bucket is None:
                    continue
                if r.random() < 0.06 and bucket != BUCKETS_S[-1]:
                    bucket = int(r.choice([b for b in BUCKETS_S if b > bucket]))
                if r.random() < curriculum.long:
                    bucket = LONG_S
                pools[bucket].append(example)
                if len(pools[bucket]) >= max(4, int(curriculum.batch_s / bucket)):
                    yield self._collate(r, pools.pop(bucket), bucket, curriculum)
                    break
            step += n_workers

    def _example(
        self, r: np.random.Generator, item: corpus.Item, same_voice: list[corpus.Item], everybody: list[corpus.Item],
        c: Curriculum,
    ) -> Example:  # fmt: skip
        audio, text, words = self.spoken(r, item, c)
        real = item.voice in self.spoken_by
        e = Example(audio, text, self._labels(item), words, bool(item.phones), language=item.language, recorded=real)
        if c.easy_only:
            return e
        if r.random() < 0.04:
            return replace(self._noise_only(r), language=item.language)
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
        e.audio = augment.distort(r, e.audio, c.distort, c.quietest_db, loudest_db, crowd)
        return e

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

    def _noise_only(self, r: np.random.Generator) -> Example:
        n = int(r.uniform(0.5, 6) * SAMPLE_RATE)
        level = 10 ** r.uniform(-4.5, -1.0) if r.random() < 0.8 else 0.0
        return Example(np.clip(augment.coloured_noise(r, n) * level, -1, 1), "", [("pau", 0.0, n / SAMPLE_RATE)], [], False)

    def _before(self, e: Example, room: int) -> list[int]:
        """The prompt of what was said before, its last tokens if there is no room for all."""
        told = self.tokenizer.encode(" " + e.before, add_special_tokens=False).ids if e.before else []
        return [self.prev, *told[-room:]] if told and room > 3 else []

    def _tokens(self, r: np.random.Generator, e: Example) -> list[int]:
        prompt = [self.sot, *self.prompts.get(e.language, [])]
        if not e.text:
            return [self.sot, self.nospeech, self.eot] if r.random() < 0.5 else [*prompt, self.notimes, self.eot]
        ids = self.tokenizer.encode(" " + e.text, add_special_tokens=False).ids
        spoken = [p for p in e.phones if p[0] != "pau"]
        if e.timed and spoken and r.random() < 0.4:
            stamp = lambda t: self.notimes + 1 + min(1500, max(0, round(t / TIMESTAMP_S)))  # noqa: E731
            return [*prompt, stamp(spoken[0][1]), *ids, stamp(spoken[-1][2]), self.eot]
        return [*prompt, self.notimes, *ids, self.eot]

    def _collate(self, r: np.random.Generator, examples: list[Example], bucket: int, c: Curriculum) -> Batch:
        n, frames, length = len(examples), bucket * 100, max_tokens(bucket)
        mel = np.zeros((n, 80, frames), np.float32)
        tokens = np.full((n, length), self.eot, np.int64)
        targets = np.full((n, length), IGNORE, np.int64)
        phones = np.full((n, frames // 2), IGNORE, np.int64)
        chars = np.zeros((n, min(bucket, BUCKETS_S[-1]) * 30), np.int64)
        char_lengths = np.zeros(n, np.int64)
        for i, e in enumerate(examples):
            padded = np.zeros(bucket * SAMPLE_RATE, np.float32)
            padded[: len(e.audio)] = e.audio
            mel[i] = log_mel(padded)
            if r.random() < c.formants:
                mel[i] = augment.warp_formants(mel[i], r.uniform(0.82, 1.22))
            if r.random() < c.microphone:
                mel[i] = augment.microphone(r, mel[i])
            if r.random() < c.pace:
                before, after = augment.pace(r, len(e.audio) / SAMPLE_RATE)
                mel[i] = augment.repaced(mel[i], before, after)
                e.phones = [(name, *np.interp((a, b), before, after).tolist()) for name, a, b in e.phones]
            spec = c.spec if c.spec_recorded is None or not e.recorded else c.spec_recorded
            if spec > 0 and e.text:
                augment.spec_augment(r, mel[i], spec)
            ids = self._tokens(r, e)[: length + 1]
            before = self._before(e, length - len(ids))
            n_before, n_all = len(before), len(before) + len(ids)
            tokens[i, : n_all - 1], targets[i, n_before : n_all - 1] = [*before, *ids[:-1]], ids[1:]
            if self.prompts and not e.text and ids[1] != self.nospeech:
                targets[i, n_before] = IGNORE  # nothing is said in any language
            if e.phones:
                phones[i] = 0
                for name, a, b in e.phones:
                    phones[i, round(a * 50) : round(b * 50)] = self.phone_id.get(name, IGNORE)
            spelled = [CHARS.index(ch) + 1 for ch in plain(e.text) if ch in CHARS][: chars.shape[1]]
            chars[i, : len(spelled)], char_lengths[i] = spelled, len(spelled)
        return Batch(*(torch.from_numpy(a) for a in (mel, tokens, targets, phones, chars, char_lengths)))


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


def recorded_items(folder: Path, sources: list[Path]) -> list[corpus.Item]:
    """Folders of audio and transcripts.tsv, decoded once into a shard of their own beside `folder`."""
    items: list[corpus.Item] = []
    for k, source in enumerate(sources):
        cache = folder.with_name(folder.name + "-recorded")
        index = cache / f"recorded-{k:03d}.jsonl"
        if not index.exists():
            corpus.write_shard(cache, f"recorded-{k:03d}", corpus.recorded(source, source / "transcripts.tsv"))
        items += corpus.read_shard(index)
    return items


def shuffled(items: list[corpus.Item], seed: int) -> list[corpus.Item]:
    out = list(items)
    random.Random(seed).shuffle(out)
    return out
