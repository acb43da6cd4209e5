"""Word error rates of a checkpoint, decoded by the product's own engine (one pass over the whole utterance).

Normaliser: Whisper's `EnglishTextNormalizer` (package whisper-normalizer; other languages its `BasicTextNormalizer`, which
keeps accents), for reference and hypothesis alike; WER by jiwer over all words of a set.
"""

from __future__ import annotations

import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from export import whisper
from export.checkpoint import open_checkpoint
from export.engine.batch import run
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.vocabulary import AUTO
from export.engine.windows import window_length
from export.nano import corpus
from export.nano.conditions import Spoken
from export.nano.synth import PAUSES
from export.repository import vocabulary, window_lengths

RATE = 16_000
TIMESTAMP_S, TIMESTAMPS = 0.02, 1501
SAMPLES_PER_STATE = 320
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
    """A checkpoint's graphs in this process: audio in, text out, one utterance or many at once. `beam_size`: by default what
    the checkpoint says, 1 is greedy."""

    def __init__(self, checkpoint_folder: Path, precision: str = "fp32", threads: int = 2, beam_size: int = 0) -> None:
        checkpoint = open_checkpoint(str(checkpoint_folder))
        self.beam_size = beam_size or checkpoint.beam_size
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
        self.vocabulary, self.tokenizer = vocabulary(checkpoint), checkpoint.tokenizer
        self._batch = Growing(graphs["cross"], graphs["decoder"], self.vocabulary)
        self._scheduler = Scheduler(self._batch, self.vocabulary)
        self.windows = [round(s * RATE) for s in window_lengths(checkpoint)]
        self.padding = round(checkpoint.padding_s * RATE)

    def close(self) -> None:
        self._scheduler.stop()
        self._folder.cleanup()

    def hidden(self, clip: Pcm, window_s: float | None = None) -> npt.NDArray[np.float32]:
        """The encoder's states (T, d) of a clip in the window that the checkpoint's policy says, or in `window_s`."""
        size = round(window_s * RATE) if window_s else window_length(len(clip), self.windows, self.padding)
        padded = np.zeros((1, size), np.int16)
        padded[0, : min(len(clip), size)] = clip[:size]
        return run(self._encoder, ["hidden_states"], {"audio": padded})[0][0]

    def timestamp(self, hidden: npt.NDArray[np.float32], text: Sequence[int], start: float | None = None) -> float:
        """Seconds: the likeliest timestamp token before the text, or, given that one, after it."""
        v = self.vocabulary
        first = v.no_timestamps + 1
        before = v.prompt()[:-1]  # of English, and timestamps are wanted
        tokens = before if start is None else [*before, first + round(start / TIMESTAMP_S), *text]
        _, (logits, *_) = self._batch.first_pass(hidden[None], np.array([tokens], np.int64))
        return TIMESTAMP_S * int(logits[0, -1, first : first + TIMESTAMPS].argmax())

    def transcribe(
        self, clips: Sequence[Pcm], *, window_s: float | None = None, words: bool = False, language: str = "en"
    ) -> list[Hypothesis]:
        """Decodes each clip (int16, 16 kHz) in the window that the checkpoint's policy says, or in `window_s`; `language`
        "auto": the likeliest of the checkpoint's."""
        results: list[Hypothesis | None] = [None] * len(clips)
        pending = threading.Semaphore(32)
        for i, clip in enumerate(clips):
            hidden = self.hidden(clip, window_s)
            size = len(hidden) * SAMPLES_PER_STATE
            pending.acquire()

            def done(result: Hypothesis | Exception, i: int = i) -> None:
                results[i] = result if isinstance(result, Hypothesis) else None
                pending.release()

            prompt = self.vocabulary.prompt(language)
            job = Job(hidden, min(len(clip), size), prompt, [], language, words, done, beam_size=self.beam_size)
            self._scheduler.submit(job)
        for _ in range(32):
            pending.acquire()
        return [r or Hypothesis([], [], "", 0.0) for r in results]


def word_errors(references: Iterable[str], hypotheses: Iterable[str], language: str = "en") -> Score:
    normalise = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
    pairs = [(normalise(r), normalise(h)) for r, h in zip(references, hypotheses, strict=True)]
    pairs = [(r, h) for r, h in pairs if r]
    wer = jiwer.wer([r for r, _ in pairs], [h for _, h in pairs])
    return Score(100 * wer, len(pairs), sum(len(r.split()) for r, _ in pairs))


def timestamps(recogniser: Recogniser, items: Sequence[corpus.Item]) -> dict[str, float]:
    """Errors in seconds of the timestamp tokens around the right text, against the synthesiser's phones."""
    errors: list[float] = []
    for item in items:
        spoken = [p for p in item.phones if p[0] not in PAUSES]
        if not spoken:
            continue
        hidden = recogniser.hidden(item.audio())
        start = recogniser.timestamp(hidden, [])
        end = recogniser.timestamp(hidden, recogniser.tokenizer.encode(" " + item.text, add_special_tokens=False).ids, start)
        errors += [abs(start - spoken[0][1]), abs(end - spoken[-1][2])]
    return {
        "median_s": round(float(np.median(errors)), 3),
        "p95_s": round(float(np.percentile(errors, 95)), 3),
        "within_0.2_s": round(float(np.mean(np.array(errors) <= 0.2)), 3),
    }


def languages(recogniser: Recogniser, sets: Mapping[str, Sequence[corpus.Item]], seconds: float = 2.0) -> dict[str, float]:
    """Share of the utterances of each set, of one language each, whose language is found in their first seconds."""
    n = round(seconds * RATE)
    shares: dict[str, float] = {}
    for name, items in sets.items():
        clips = [(i.audio()[:n], i.language) for i in items if i.n_samples >= n]
        found = recogniser.transcribe([clip for clip, _ in clips], language=AUTO)
        right = [h.language == language for h, (_, language) in zip(found, clips, strict=True)]
        shares[name] = round(float(np.mean(right)), 4)
    return shares


def evaluate(
    recogniser: Recogniser, sets: Mapping[str, Sequence[Spoken]], window_s: float | None = None, language: str = "en"
) -> dict[str, Score]:
    """WER of each set, and of each synthesiser within it."""
    scores: dict[str, Score] = {}
    for name, items in sets.items():
        heard = recogniser.transcribe([i.audio() for i in items], window_s=window_s, language=language)
        found = [h.text for h in heard]
        scores[name] = word_errors([i.text for i in items], found, language)
        engines: dict[str, list[int]] = defaultdict(list)
        for k, item in enumerate(items):
            engines[item.voice.split(":")[0]].append(k)
        if len(engines) > 1:
            for engine, members in sorted(engines.items()):
                scores[f"{name}/{engine}"] = word_errors(
                    [items[k].text for k in members], [found[k] for k in members], language
                )
    return scores
