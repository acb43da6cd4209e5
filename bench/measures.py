"""What users read, measured on sessions in virtual time: policies, long speech, word times, confidence, noise."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from rich.console import Console
from rich.progress import track

from bench import pictures
from bench.languages import languages
from bench.local import RATE, LocalEngine, Pcm, Playing, Told
from export.confidence import calibration_error, judged, judged_words
from export.engine.confidence import Calibrator
from export.nano import corpus
from export.nano.evaluate import word_errors
from export.repository import export_silero, export_whisper
from frontend.speech.events import Final, Partial
from frontend.speech.settings import SessionSettings
from frontend.speech.stabilizer import StabilizerSettings

console = Console()
LEAD, TRAIL = np.zeros(RATE // 2, np.int16), np.zeros(RATE, np.int16)
"""Silence around each clip: speech begins and ends by the VAD, not by the file."""
QUIET = 300
"""Of 32,768: what the synthesisers have around and between sentences is less."""
LEADS = tuple(np.zeros(round(s * RATE), np.int16) for s in (0.3, 0.37, 0.44, 0.51, 0.58))
"""Each clip is heard with all of these before it: where the windows begin alone moves the error rate of a hundred clips by
a point or two."""

POLICIES = {
    "no partials": SessionSettings(interim_results=False),
    "LocalAgreement-2": SessionSettings(stable=StabilizerSettings("local_agreement")),
    "AlignAtt, 0.6 s": SessionSettings(stable=StabilizerSettings("align_att", 9_600)),
    "AlignAtt, 1.0 s": SessionSettings(stable=StabilizerSettings("align_att", 16_000)),
}


@dataclass
class Streamed:
    """What a policy did to a set."""

    texts: list[str] = field(default_factory=list[str])
    changed: int = 0
    """Words of partials that were not there any more in the next result."""
    broken: int = 0
    """Settled words that changed: must stay 0."""
    words: int = 0
    settled_after: list[float] = field(default_factory=list[float])
    """Seconds from a word's end to its being settled."""

    def add(self, told: Sequence[Told]) -> None:
        self.texts.append(" ".join(t.event.text for t in told if isinstance(t.event, Final)))
        shown: list[str] = []
        settled: list[str] = []
        for t in told:
            if not isinstance(t.event, Partial | Final):
                continue
            words = [w.text for w in t.event.words]
            final = isinstance(t.event, Final)
            self.changed += sum(i >= len(words) or words[i] != w for i, w in enumerate(shown)) if not final else 0
            whole = final and t.event.ends_utterance  # a cut tells less than was settled; the rest goes on
            kept = settled if not final or whole else settled[: len(words)]
            self.broken += sum(i >= len(words) or words[i] != w for i, w in enumerate(kept))
            n = len(words) if isinstance(t.event, Final) else t.event.n_stable
            self.settled_after += [(t.at - w.end) / RATE for w in t.event.words[len(settled) : n]]
            if final:
                self.changed += sum(i >= len(words) or words[i] != w for i, w in enumerate(shown[: len(words)]))
                self.words += len(words)
                shown, settled = shown[len(words) :] if not whole else [], settled[len(words) :] if not whole else []
            else:
                shown, settled = words, words[:n]


def percentile(values: Sequence[float], q: float) -> float:
    return round(float(np.percentile(values, q)), 2) if values else float("nan")


def behind_silences(items: Sequence[corpus.Item]) -> tuple[list[Pcm], list[str]]:
    """Each clip behind each of `LEADS`, and what is said in it."""
    return [np.concatenate([lead, i.audio()]) for lead in LEADS for i in items], [i.text for _ in LEADS for i in items]


def streaming(
    engine: LocalEngine, items: Sequence[corpus.Item], policies: Mapping[str, SessionSettings] = POLICIES
) -> dict[str, Any]:
    """Every policy on one set, and the offline pass over the same audio."""
    heard, references = behind_silences(items)
    offline = word_errors(references, [engine.decode(audio).text for audio in heard]).wer
    rows: dict[str, Any] = {"offline": {"wer": round(offline, 2)}}
    audio_s = sum(map(len, heard)) / RATE
    for name, settings in policies.items():
        found, before = Streamed(), (engine.n_decodes, engine.encoded_s, engine.busy_s)
        for audio in track(heard, name, console=console):
            found.add(Playing(engine, settings).play(np.concatenate([audio, TRAIL])))
        wer = word_errors(references, found.texts).wer
        rows[name] = {
            "wer": round(wer, 2),
            "gap": round(wer - offline, 2),
            "churn": round(found.changed / max(1, found.words), 3),
            "settled_words_changed": found.broken,
            "settled_after_s": {"p50": percentile(found.settled_after, 50), "p95": percentile(found.settled_after, 95)},
            "decodes_per_utterance": round((engine.n_decodes - before[0]) / len(heard), 2),
            "encoded_s_per_s": round((engine.encoded_s - before[1]) / audio_s, 2),
            "engine_s_per_s": round((engine.busy_s - before[2]) / audio_s, 4),
        }
    return rows


def without_silence(audio: Pcm) -> Pcm:
    """From the first sound to the last one, 10 ms around them."""
    loud = np.flatnonzero(np.abs(audio.astype(np.int32)) > QUIET)
    return audio[max(0, loud[0] - RATE // 100) : loud[-1] + RATE // 100] if len(loud) else audio


def whole_sentences(said: Sequence[tuple[Pcm, str]], longest: int) -> list[list[tuple[Pcm, str]]]:
    """As many in a row as a window of so many samples holds."""
    windows: list[list[tuple[Pcm, str]]] = [[]]
    for audio, text in said:
        if windows[-1] and sum(len(a) for a, _ in windows[-1]) + len(audio) > longest:
            windows.append([])
        windows[-1].append((audio, text))
    return windows


def long_speech(
    engine: LocalEngine, items: Sequence[corpus.Item], hours: float, defaults: SessionSettings | None = None
) -> dict[str, Any]:
    """Sentences of one recording after another, a breath between them or none, no endpoint ever: WER beside sentences one by
    one, and beside windows that somebody who knows the sentences has cut."""
    defaults = defaults or SessionSettings()
    settings = replace(defaults, vad=replace(defaults.vad, endpoint=4 * RATE))
    rows: dict[str, Any] = {}
    for between, gap_s in (("0.1 s between", 0.1), ("0.3 s between", 0.3), ("no silence at all", 0.0)):
        gap = np.zeros(round(gap_s * RATE), np.int16)
        clips = [i.audio() if gap_s else without_silence(i.audio()) for i in items]
        said = [(np.concatenate([audio, gap]), i.text) for audio, i in zip(clips, items, strict=True)]
        one_by_one = word_errors([i.text for i in items], [engine.decode(audio).text for audio in clips]).wer
        windows = whole_sentences(said, defaults.max_segment)
        by_hand = [engine.decode(np.concatenate([audio for audio, _ in w])).text for w in windows]
        chosen: list[tuple[Pcm, str]] = []
        while sum(len(audio) for audio, _ in chosen) < hours * 3600 * RATE:
            chosen += said
        audio = np.concatenate([LEAD, *(a for a, _ in chosen), TRAIL])
        finals = [t.event for t in Playing(engine, settings).play(audio) if isinstance(t.event, Final)]
        doubled = sum(a.words[-1].text == b.words[0].text for a, b in itertools.pairwise(finals) if a.words and b.words)
        wer = word_errors([" ".join(text for _, text in chosen)], [" ".join(f.text for f in finals)]).wer
        rows[between] = {
            "wer": round(wer, 2),
            "one_by_one": round(one_by_one, 2),
            "cut_by_hand": round(word_errors([" ".join(t for _, t in w) for w in windows], by_hand).wer, 2),
            "minutes": round(len(audio) / RATE / 60, 1),
            "finals": len(finals),
            "same_word_on_both_sides_of_a_cut": doubled,
        }
    return rows


def word_times(engine: LocalEngine, items: Sequence[corpus.Item]) -> dict[str, Any]:
    """Start and end of rightly recognised words against the synthesiser's own, in milliseconds."""
    errors: list[float] = []
    for item in items:
        said = item.text.split()
        if len(item.words) != len(said):
            continue
        h = engine.decode(item.audio())
        right = judged(item.text, h.words)
        if len(h.words) != len(said) or not all(right):
            continue
        for (start, end), (_, true_start, true_end) in zip(h.word_times, item.words, strict=True):
            errors += [abs(start / RATE - true_start) * 1000, abs(end / RATE - true_end) * 1000]
    return {"median_ms": percentile(errors, 50), "p95_ms": percentile(errors, 95), "edges": len(errors)}


def confidence(engine: LocalEngine, sets: dict[str, Sequence[corpus.Item]]) -> dict[str, Any]:
    """Expected calibration error per set, as decoded and calibrated, and the points of the diagram."""
    rows: dict[str, Any] = {}
    for name, items in sets.items():
        heard, references = behind_silences(items)
        features, right = judged_words([engine.decode(audio) for audio in heard], references)
        calibrated = [engine.calibrator.probability(f) for f in features]
        rows[name] = {
            "words": len(right),
            "right": round(sum(right) / max(1, len(right)), 3),
            "ece_as_decoded": round(calibration_error([Calibrator().probability(f) for f in features], right), 3),
            "ece": round(calibration_error(calibrated, right), 3),
            "diagram": pictures.reliability_points(calibrated, right),
        }
    return rows


def _samples(path: Path) -> Pcm | None:
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    mono = soxr.resample(audio.mean(axis=1), rate, RATE) if len(audio) else np.zeros(0)
    return np.clip(mono * 32768, -32768, 32767).astype(np.int16)


def nothing_said(engine: LocalEngine, shared: Path) -> dict[str, Any]:
    """Words told of what holds no speech: they should be none."""
    sources = {"digital silence, 60 s": np.zeros(60 * RATE, np.int16)}
    r = np.random.default_rng(3)
    for level in (30, 300, 3000):
        sources[f"white noise, RMS {level}, 60 s"] = (r.standard_normal(60 * RATE) * level).astype(np.int16)
    t = np.arange(60 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * t) * (1 + np.sin(2 * np.pi * 0.5 * t)) for f in (220, 277, 330))
    sources["a chord, swelling, 60 s"] = (chord * 2000).astype(np.int16)
    for path in sorted((shared / "noise" / "noise").glob("*")):
        if (audio := _samples(path)) is not None:
            sources[path.name] = audio
    rows: dict[str, Any] = {}
    for name, audio in sources.items():
        told = Playing(engine, SessionSettings()).play(np.concatenate([audio, TRAIL]))
        texts = [t.event.text for t in told if isinstance(t.event, Final) and t.event.text]
        rows[name] = {
            "seconds": round(len(audio) / RATE, 1),
            "words": sum(len(x.split()) for x in texts),
            "texts": texts[:5],
        }
    return rows


def multilingual(checkpoint: Path, work: Path, repository: Path, limit: int) -> dict[str, Any]:
    """`languages` of each language's test sets."""
    export_whisper(str(checkpoint), repository, precision="fp32", name="multi")
    export_silero(repository)
    engine = LocalEngine(repository, "multi")
    sets: dict[str, Sequence[corpus.Item]] = {}
    try:
        for code in engine.vocabulary.languages:
            corpus.synthesise_test(work / "test", language=code)
            for name in ("seen", "unseen"):
                label = name if code == "en" else f"{code}-{name}"
                sets[f"{code}-{name}"] = corpus.read_shard(work / "test" / f"{label}.jsonl")[:limit]
        return languages(engine, sets)
    finally:
        engine.close()


def test_sets(work: Path, shared: Path, limit: int) -> dict[str, Sequence[corpus.Item]]:
    """Held-out sentences in voices trained on (`seen`) and others, and real speech (`kathleen_en`) where it is there."""
    corpus.synthesise_test(work / "test")
    sets = {name: corpus.read_shard(work / "test" / f"{name}.jsonl") for name in ("seen", "unseen")}
    real = shared / "kathleen_en" / "test"
    if real.is_dir():
        index = work / "test" / "recorded" / "kathleen_en-test.jsonl"
        if not index.exists():
            corpus.write_shard(index.parent, index.stem, corpus.recorded(real, real / "transcripts.tsv"))
        sets["kathleen_en"] = corpus.read_shard(index)
    return {name: items[:limit] for name, items in sets.items()}


def local_engine(checkpoint: Path, repository: Path) -> LocalEngine:
    """Exports a checkpoint, fp32, and the VAD."""
    export_whisper(str(checkpoint), repository, precision="fp32", name="nano")
    export_silero(repository)
    return LocalEngine(repository)
