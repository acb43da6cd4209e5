"""Word error rates of a checkpoint, decoded by the product's own engine (greedy, one pass over the whole utterance).

Normaliser: Whisper's `EnglishTextNormalizer` (package whisper-normalizer), for reference and hypothesis alike; WER by
jiwer over all words of a set.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from whisper_normalizer.english import EnglishTextNormalizer

from export import whisper
from export.checkpoint import open_checkpoint
from export.engine.scheduler import Hypothesis, Job, Scheduler, run, sessions
from export.nano import corpus
from export.repository import vocabulary, window_lengths

RATE = 16_000
NORMALISER = "whisper-normalizer EnglishTextNormalizer"
Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Score:
    """WER in percent and the counts behind it."""

    wer: float
    n_utterances: int
    n_words: int

    def __str__(self) -> str:
        return f"{self.wer:5.1f} %  ({self.n_utterances} utterances, {self.n_words} words)"


class Recogniser:
    """A checkpoint's graphs in this process: audio in, text out, one utterance or many at once."""

    def __init__(self, checkpoint_folder: Path, precision: str = "fp32", threads: int = 2) -> None:
        checkpoint = open_checkpoint(str(checkpoint_folder))
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        for name, build in (("encoder", whisper.encoder), ("cross", whisper.cross), ("decoder", whisper.decoder)):
            whisper.save(
                build(checkpoint, "float16" if precision == "fp16" else "float32"), folder / f"{name}.onnx", precision
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder = ort.InferenceSession(str(folder / "encoder.onnx"), options, providers=["CPUExecutionProvider"])
        graphs = sessions(folder, ["CPUExecutionProvider"], threads)
        self.vocabulary = vocabulary(checkpoint)
        self._scheduler = Scheduler(graphs["cross"], graphs["decoder"], self.vocabulary)
        self.windows = [round(s * RATE) for s in window_lengths(checkpoint)]

    def close(self) -> None:
        self._scheduler.stop()
        self._folder.cleanup()

    def transcribe(self, clips: Sequence[Pcm], *, window_s: float | None = None, words: bool = False) -> list[Hypothesis]:
        """Decodes each clip (int16, 16 kHz) in the smallest window that holds it, or in `window_s`."""
        results: list[Hypothesis | None] = [None] * len(clips)
        pending = threading.Semaphore(32)
        for i, clip in enumerate(clips):
            size = (
                round(window_s * RATE) if window_s else next((w for w in self.windows if w >= len(clip)), self.windows[-1])
            )
            padded = np.zeros((1, size), np.int16)
            padded[0, : min(len(clip), size)] = clip[:size]
            hidden = run(self._encoder, ["hidden_states"], {"audio": padded})[0][0]
            pending.acquire()

            def done(result: Hypothesis | Exception, i: int = i) -> None:
                results[i] = result if isinstance(result, Hypothesis) else None
                pending.release()

            self._scheduler.submit(Job(hidden, min(len(clip), size), self.vocabulary.prompt(), [], "en", words, done))
        for _ in range(32):
            pending.acquire()
        return [r or Hypothesis([], [], "", 0.0) for r in results]


def word_errors(references: Iterable[str], hypotheses: Iterable[str]) -> Score:
    normalise = EnglishTextNormalizer()
    pairs = [(normalise(r), normalise(h)) for r, h in zip(references, hypotheses, strict=True)]
    pairs = [(r, h) for r, h in pairs if r]
    wer = jiwer.wer([r for r, _ in pairs], [h for _, h in pairs])
    return Score(100 * wer, len(pairs), sum(len(r.split()) for r, _ in pairs))


def evaluate(
    checkpoint: Path, sets: dict[str, list[corpus.Item]], precision: str = "fp32", window_s: float | None = None
) -> dict[str, Score]:
    """WER of each set, and of each synthesiser within it."""
    recogniser = Recogniser(checkpoint, precision)
    scores: dict[str, Score] = {}
    try:
        for name, items in sets.items():
            found = [h.text for h in recogniser.transcribe([i.audio() for i in items], window_s=window_s)]
            scores[name] = word_errors([i.text for i in items], found)
            engines: dict[str, list[int]] = defaultdict(list)
            for k, item in enumerate(items):
                engines[item.voice.split(":")[0]].append(k)
            if len(engines) > 1:
                for engine, members in sorted(engines.items()):
                    scores[f"{name}/{engine}"] = word_errors([items[k].text for k in members], [found[k] for k in members])
    finally:
        recogniser.close()
    return scores


def as_json(scores: dict[str, Score]) -> str:
    return json.dumps(
        {n: {"wer": round(s.wer, 2), "utterances": s.n_utterances, "words": s.n_words} for n, s in scores.items()},
        indent=1,
    )
