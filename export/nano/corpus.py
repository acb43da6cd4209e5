"""Utterances on disk: shards of raw int16 audio beside a line of JSON an utterance.

`shard-000.pcm` holds 16 kHz mono int16 end to end; `shard-000.jsonl` says where each utterance lies in it, its text,
voice, and the phones and words the synthesiser told (see `synth.py`). A shard appears whole or not at all (written
under another name, then renamed), so training may start while later shards are still being made.
"""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from export.nano import neural, synth, texts
from export.nano.languages import LANGUAGES

log = logging.getLogger(__name__)
SHARD_SIZE = 2000
Cast = Callable[[random.Random, str], synth.Voice]
"""Whose voices a shard is spoken in: the next one, given the language; see `synth.seen_voice` and its neighbours."""


@dataclass(frozen=True)
class Item:
    """One utterance of a shard; audio is read on demand."""

    path: Path
    offset: int
    n_samples: int
    text: str
    voice: str
    phones: list[synth.Span]
    words: list[synth.Span]
    language: str = "en"

    def audio(self) -> synth.Pcm:
        """int16 (n_samples,) at 16 kHz."""
        return np.fromfile(self.path, np.int16, self.n_samples, offset=self.offset * 2)


def write_shard(folder: Path, name: str, utterances: Iterable[synth.Utterance]) -> int:
    """Writes one shard; returns how many utterances it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    offset = count = 0
    part_pcm, part_index = folder / f"{name}.pcm.part", folder / f"{name}.jsonl.part"
    with part_pcm.open("wb") as pcm, part_index.open("w") as index:
        for u in utterances:
            pcm.write(np.ascontiguousarray(u.audio, np.int16).tobytes())
            row = {"o": offset, "n": len(u.audio), "t": u.text, "v": u.voice, "p": u.phones, "w": u.words, "l": u.language}
            index.write(json.dumps(row) + "\n")
            offset += len(u.audio)
            count += 1
    part_pcm.rename(folder / f"{name}.pcm")
    part_index.rename(folder / f"{name}.jsonl")
    return count


def read_shard(index: Path, first: int = 0, every: int = 1) -> list[Item]:
    """Its utterances, from the `first` on; to be shared among readers, one of so `every` many."""
    rows = [json.loads(line) for line in index.read_text().splitlines()[first::every]]
    spans = lambda value: [tuple(s) for s in value]  # noqa: E731
    pcm = index.with_suffix(".pcm")
    return [Item(pcm, r["o"], r["n"], r["t"], r["v"], spans(r["p"]), spans(r["w"]), r.get("l", "en")) for r in rows]


def read(folder: Path) -> list[Item]:
    """Every utterance of every finished shard of a folder."""
    return [item for index in sorted(folder.glob("*.jsonl")) for item in read_shard(index)]


def _spoken(sentences: list[str], seed: int, cast: Cast, language: str) -> Iterator[synth.Utterance]:
    r = random.Random(seed)
    festival: dict[str, list[str]] = {}
    for text in sentences:
        voice = cast(r, language)
        if voice.engine == "festival":
            festival.setdefault(voice.name, []).append(text)
            continue
        try:
            utterance = synth.synthesise(text, voice)
        except Exception as error:  # an engine that chokes on one sentence costs one sentence
            log.warning("skipped %r in %s: %s", text, voice, error)
            continue
        if 0.3 <= len(utterance.audio) / synth.SAMPLE_RATE <= 12.0:
            yield utterance
    for name, batch in festival.items():
        voice = synth.Voice("festival", name, r.uniform(0.85, 1.25))
        yield from (u for u in _in_one_process(batch, voice) if len(u.audio) <= 12 * synth.SAMPLE_RATE)


def _in_one_process(batch: list[str], voice: synth.Voice) -> Iterator[synth.Utterance]:
    """festival ends at a sentence that it chokes on, which is found by halves and left out."""
    try:
        yield from list(synth.festival_batch(batch, voice))
    except Exception as error:
        if len(batch) == 1:
            log.warning("skipped %r in %s: %s", batch[0], voice, error)
        else:
            middle = len(batch) // 2
            yield from _in_one_process(batch[:middle], voice)
            yield from _in_one_process(batch[middle:], voice)


def make_shard(folder: Path, name: str, sentences: list[str], seed: int, cast: Cast, language: str = "en") -> str:
    """Synthesises and writes one shard in the voices of `cast`."""
    spoken = (replace(u, language=language) for u in _spoken(sentences, seed, cast, language))
    return f"{name}: {write_shard(folder, name, spoken)} utterances"


def synthesise(folder: Path, n: int, *, seed: int = 1, workers: int = 2, n_easy: int = 6000, language: str = "en") -> None:
    """`n` training utterances as shards in `folder`; resumable. In English the first `n_easy` are short, in four easy
    voices: where training begins; and there are shards of single words."""
    sentences = texts.corpus(n, seed, language=language)
    easy = [t for t in sentences if len(t.split()) <= 9][:n_easy] if language == "en" else []
    chosen = set(easy)
    sentences = easy + [t for t in sentences if t not in chosen]
    again = "" if seed == 1 else f"-{seed}"  # more of it, beside what another seed made
    prefix = ("shard" if language == "en" else language) + again
    if not synth.has_pico():
        log.warning("pico2wave is not installed (docs/models.md): fewer voices")
    natural = synth.pico_voice if synth.has_pico() else synth.seen_voice
    neural_voice = neural.hibari_voice if language == "en" and neural.has_hibari() else synth.varied_voice
    diphones = language != "en" and bool(LANGUAGES[language].festival)
    # espeak-ng, which speaks half of it or more, is ten times as fast as the others
    rota: list[Cast] = [
        synth.seen_voice, natural, synth.diphone_voice if diphones else neural_voice, synth.varied_voice,
    ]  # fmt: skip
    if language == "en":
        rota.append(synth.concatenative_voice)
    planned: list[tuple[str, list[str], int, Cast]] = []
    for k in range(0, len(sentences), SHARD_SIZE):
        at = k // SHARD_SIZE
        cast = synth.easy_voice if k < len(easy) else rota[at % len(rota)]
        planned.append((f"{prefix}-{at:03d}", sentences[k : k + SHARD_SIZE], seed + k, cast))
    if language == "en":
        for at, cast in enumerate(rota[: 1 + n // 10 // SHARD_SIZE]):
            planned.append((f"words{again}-{at:03d}", texts.single_words(SHARD_SIZE, seed + at), seed + at, cast))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        missing = [job for job in planned if not (folder / f"{job[0]}.jsonl").exists()]
        for done in [pool.submit(make_shard, folder, *job, language) for job in missing]:
            log.info("%s", done.result())


def synthesise_test(folder: Path, n: int = 400, *, seed: int = 77, language: str = "en") -> None:
    """The held-out sentences, once in seen voices and once in voices never trained on: `seen` and `unseen`, `de-seen` …"""
    prefix = "" if language == "en" else f"{language}-"
    missing = [(prefix + name, cast) for name, cast in (("seen", synth.seen_voice), ("unseen", synth.unseen_voice))]
    missing = [(name, cast) for name, cast in missing if not (folder / f"{name}.jsonl").exists()]
    if missing:
        sentences = texts.corpus(n, seed, held_out=True, language=language)
        for name, cast in missing:
            log.info("%s", make_shard(folder, name, sentences, seed, cast, language))


def recorded(folder: Path, transcripts: Path) -> Iterator[synth.Utterance]:
    """Real speech: the audio files below `folder` that `transcripts` (file TAB text) names; any format soundfile reads."""
    with transcripts.open(encoding="utf-8") as file:
        for name, text, *_ in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            path = folder / name
            if path.exists():
                audio, rate = soundfile.read(path, dtype="int16", always_2d=True)
                first = np.asarray(audio[:, 0], np.int16)
                yield synth.Utterance(text, f"recorded:{folder.parent.name}", synth.to_16k(first, rate))
