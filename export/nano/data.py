"""Training batches: utterances chosen, augmented, turned to log-mel and labels, in a few fixed shapes.

A new tensor shape each step makes oneDNN several times slower, so windows have one of `BUCKETS_S` lengths, and tokens
and phones are padded to what that length allows.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from export.nano import augment, corpus
from export.nano.curriculum import Curriculum
from export.nano.examples import Example, Examples
from export.nano.features import log_mel
from export.nano.pools import Pool, next_language
from export.nano.sounds import Sounds
from export.nano.synth import PAUSES, SAMPLE_RATE
from export.nano.tokenizer import languages_of

BUCKETS_S = (2, 3, 4, 5, 6, 8, 12)
LONG_S = 30
EASY = frozenset({"flite:rms", "flite:slt", "flite:kal16", "espeak:en-us"})
CHARS = " abcdefghijklmnopqrstuvwxyz'"
IGNORE = -100
TIMESTAMP_S = 0.02


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
        self.examples = Examples(recorded, Sounds(folder.with_name(folder.name + "-sounds")))
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
        by_voice: dict[str, list[corpus.Item]] = defaultdict(list, {v: list(i) for v, i in self.examples.spoken_by.items()})
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
                if r.random() >= curriculum.engines.get(item.voice.split(":")[0], 1.0):
                    continue
                example = self.examples.made_of(r, item, by_voice[item.voice], everybody.items, curriculum)
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
