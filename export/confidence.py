"""Fits the word confidence of a checkpoint: `python -m export.confidence --work runs/nano`.

Held-out sentences that no test set uses, in the voices of the training and in random ones, are decoded clean, in noise,
through a telephone line, at other speeds, and so spoilt that every second word is lost, as real speech can be. Each
recognised word is right or wrong by its alignment with what was said (Levenshtein, jiwer). The regression is fitted by
Newton's method and written beside the checkpoint as `confidence.json`, with what it was fitted on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import jiwer
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from export.engine.confidence import FILE, Calibrator, WordFeatures
from export.engine.jobs import Hypothesis
from export.nano import augment, corpus, synth, texts
from export.nano.evaluate import Recogniser
from export.nano.languages import LANGUAGES
from export.repository import NANO

Float = npt.NDArray[np.float64]
DEV_SEED = 4711
RIDGE = 1e-2
"""Keeps weights small where features say the same."""


def bare(word: str) -> str:
    """As words are compared: lower case, without punctuation."""
    return re.sub(r"[^\w']+", "", word.lower())


def judged(reference: str, words: Sequence[str]) -> list[bool]:
    """Whether each recognised word is one that was said, by the cheapest alignment of the two texts."""
    said = " ".join(b for w in reference.replace("-", " ").split() if (b := bare(w)))
    places = [i for i, w in enumerate(words) if bare(w)]
    right = [False] * len(words)
    if not said or not places:
        return right
    heard = " ".join(bare(words[i]) for i in places)
    for chunk in jiwer.process_words(said, heard).alignments[0]:
        if chunk.type == "equal":
            for k in range(chunk.hyp_start_idx, chunk.hyp_end_idx):
                right[places[k]] = True
    return right


def development_set(folder: Path, n: int, language: str = "en") -> list[corpus.Item]:
    """`n` held-out sentences in seen voices and `n` in random ones, of other seeds than the test sets; made once."""
    tested = set(texts.corpus(400, 77, held_out=True, language=language))
    prefix = "" if language == "en" else f"{language}-"
    items: list[corpus.Item] = []
    casts = {f"{prefix}dev": synth.seen_voice, f"{prefix}dev-varied": synth.varied_voice}
    for seed, (name, cast) in enumerate(casts.items(), DEV_SEED):
        index = folder / f"{name}.jsonl"
        if not index.exists():
            held_out = texts.corpus(2 * n, seed, held_out=True, language=language)
            corpus.make_shard(folder, name, [t for t in held_out if t not in tested][:n], seed, cast, language)
        items += corpus.read_shard(index)
    return items


def conditions(items: Sequence[corpus.Item]) -> Iterator[tuple[synth.Pcm, str]]:
    """Each sentence clean and spoilt, and every second one in between: noise, telephone, another speed, by turns."""
    r = np.random.default_rng(DEV_SEED)
    for i, item in enumerate(items):
        audio = item.audio().astype(np.float32) / 32768
        if i % 2:
            audio = augment.telephone(audio)
        if i % 3 == 0:
            audio = augment.speed(audio, float(r.choice([0.75, 0.8, 1.25, 1.35])))
        audio = augment.distort(r, audio, 1.0, 2)
        if i % 3:
            audio = in_noise(r, audio, r.uniform(0, 12))
        yield pcm(audio), item.text
    for i, item in enumerate(items):
        audio = item.audio()
        yield audio, item.text
        clean = audio.astype(np.float32) / 32768
        match i % 6:
            case 0:
                clean = in_noise(r, clean, r.uniform(3, 20))
            case 2:
                clean = augment.telephone(clean)
            case 4:
                clean = augment.speed(clean, float(r.choice([0.8, 0.85, 1.18, 1.25])))
            case _:
                continue
        yield pcm(clean), item.text


def in_noise(r: np.random.Generator, audio: npt.NDArray[np.float32], snr_db: float) -> npt.NDArray[np.float32]:
    level = float(np.sqrt(np.mean(audio**2)))
    return audio + augment.coloured_noise(r, len(audio)) * level * np.float32(10 ** (-snr_db / 20))


def pcm(audio: npt.NDArray[np.float32]) -> synth.Pcm:
    return np.clip(audio * 32768, -32768, 32767).astype(np.int16)


def fitted(features: Sequence[WordFeatures], right: Sequence[bool]) -> Calibrator:
    """The logistic regression that explains best which words were right."""
    x = np.array([[1.0, *f.vector()] for f in features])
    y = np.array(right, np.float64)
    mean, deviation = x[:, 1:].mean(0), x[:, 1:].std(0) + 1e-9
    x[:, 1:] = (x[:, 1:] - mean) / deviation
    w: Float = np.zeros(x.shape[1])
    ridge = np.diag([0.0] + [RIDGE * len(y) / 100] * (x.shape[1] - 1))
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        step = np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + ridge + 1e-9 * np.eye(len(w)), x.T @ (y - p) - ridge @ w)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    weights = w[1:] / deviation
    return Calibrator(tuple(float(v) for v in weights), float(w[0] - weights @ mean))


def calibration_error(confidence: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015), 0..1: bins of equal width, weighted by their words."""
    p, y = np.array(confidence), np.array(right, np.float64)
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == b].mean() - y[which == b].mean()) * (which == b).sum() for b in range(bins) if (which == b).any()]
    return float(sum(gaps) / max(1, len(p)))


def judged_words(found: Sequence[Hypothesis], references: Sequence[str]) -> tuple[list[WordFeatures], list[bool]]:
    """All words of some hypotheses: what is known of each, and whether it was said."""
    features = [f for h in found for f in h.features]
    right = [r for h, reference in zip(found, references, strict=True) for r in judged(reference, h.words)]
    return features, right


def main(
    work: Annotated[Path, typer.Option(help="Folder for the development set.")] = Path("runs/nano"),
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint folder in Hugging Face's format.")] = NANO,
    n: Annotated[int, typer.Option(help="Sentences, of all languages together.")] = 400,
) -> None:
    """Fit the word confidence of a checkpoint, and write it beside the weights."""
    console = Console()
    recogniser = Recogniser(checkpoint)
    found: list[Hypothesis] = []
    said: list[str] = []
    codes = [code for code in recogniser.vocabulary.languages if code in ("en", *LANGUAGES)]
    for code in codes:
        clips = list(conditions(development_set(work / "dev", n // len(codes), code)))
        found += recogniser.transcribe([audio for audio, _ in clips], words=True, language=code)
        said += [text for _, text in clips]
    recogniser.close()
    features, right = judged_words(found, said)
    calibrator = fitted(features, right)
    before = calibration_error([Calibrator().probability(f) for f in features], right)
    after = calibration_error([calibrator.probability(f) for f in features], right)
    stored = {"weights": calibrator.weights, "intercept": calibrator.intercept, "words": len(right), "ece": round(after, 4)}
    (checkpoint / FILE).write_text(json.dumps(stored, indent=1) + "\n")
    console.print(f"{len(right)} words, {sum(right) / len(right):.1%} right")
    console.print(f"expected calibration error: {before:.3f} as decoded, {after:.3f} calibrated; {checkpoint / FILE}")


if __name__ == "__main__":
    typer.run(main)
