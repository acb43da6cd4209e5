"""Continuous batching of Whisper's greedy decode: rows of many streams step together, join and leave at any step.

One thread owns the ONNX sessions. A job is prefilled alone or with jobs of the same shape (prompt and committed tokens
in one pass), then its row joins the running batch. Rows are aligned to the right: shorter caches are padded on the left
and masked, so every row appends at the same place. Finished rows stay as dead weight until the batch is repacked, which
happens when rows join or half of them are dead.
"""

from __future__ import annotations

import functools
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from .alignment import FRAME_SAMPLES, token_starts
from .confidence import Calibrator, WordFeatures
from .scores import MAX_COMPRESSION, compression, doubtful, draw, entropy, log_softmax, repeats
from .vocabulary import AUTO, UNSPACED, Vocabulary

log = logging.getLogger(__name__)
Float = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

TOKENS_PER_SECOND = 12
"""Nobody speaks faster than this in tokens of any Whisper vocabulary; it bounds a decode that has gone astray."""
LONGEST_TEXT = 224  # tokens, half of Whisper's context, as in its reference
DOUBTED_WORD = 0.6
"""Words less probable than this get alternatives."""
MOST_DOUBTED = 5
"""Words of one hypothesis that get alternatives, the least probable first."""
LONGEST_WORD = 8
"""Tokens of an alternative."""


class Cancelled(Exception):
    """Nobody waits for the job's answer any more."""


@dataclass
class Hypothesis:
    """What a decode found. Word times are samples from the window's start; the lists about words are of one length."""

    tokens: list[int]
    logprobs: list[float]
    text: str
    no_speech_probability: float
    words: list[str] = field(default_factory=list)
    word_tokens: list[int] = field(default_factory=list)
    """How many tokens each word is made of."""
    word_times: list[tuple[int, int]] = field(default_factory=list)
    word_probabilities: list[float] = field(default_factory=list)
    word_alternatives: list[list[tuple[str, float]]] = field(default_factory=list)
    features: list[WordFeatures] = field(default_factory=list)
    language: str = "en"
    language_probability: float = 1.0
    temperature: float = 0.0
    queue_ms: float = 0.0
    decode_ms: float = 0.0


@dataclass
class Job:
    """One window to decode. `hidden` float32 (T, d); `prefix` are committed tokens, forced before the decode goes on.

    A prompt of language `AUTO` has a place for the language, which is found first. `temperatures`: where the text at one
    is doubtful, it is decoded again at the next.
    """

    hidden: Float
    n_samples: int
    prompt: list[int]
    prefix: list[int]
    language: str
    want_words: bool
    done: Callable[[Hypothesis | Exception], None]
    cancelled: Callable[[], bool] = lambda: False
    urgent: bool = True
    """Finals are; partials wait for them."""
    temperatures: tuple[float, ...] = (0.0,)
    n_alternatives: int = 0
    only_word: bool = False
    """Stop where the word that the prefix begins is complete."""
    language_probability: float = 1.0
    attempts: list[Hypothesis] = field(default_factory=list[Hypothesis])
    created: float = field(default_factory=time.perf_counter)


@dataclass
class _Row:
    job: Job
    cross: list[Array]
    tokens: list[int]
    logprobs: list[float]
    no_speech: float
    attention: list[Float]
    entropies: list[float]
    limit: int
    admitted: float
    rivals: list[list[tuple[int, float]]] = field(default_factory=list[list[tuple[int, float]]])
    """For each token, when alternatives are wanted: the other likely tokens and their log-probabilities."""
    length: int = 0  # cached positions
    past: list[Array] = field(default_factory=list)  # (H, length, Dh) each, while outside the batch
    alive: bool = True
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))


def _deliver(job: Job, answer: Hypothesis | Exception) -> None:
    """An answer that nobody can take harms no other job."""
    try:
        job.done(answer)
    except Exception:
        log.exception("an answer could not be delivered")


def sessions(folder: Path, providers: Sequence[str], threads: int) -> dict[str, ort.InferenceSession]:
    """`cross.onnx` and `decoder.onnx` of a model version folder."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        n: ort.InferenceSession(str(folder / f"{n}.onnx"), options, providers=list(providers)) for n in ("cross", "decoder")
    }


def run(session: ort.InferenceSession, outputs: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
    """The session's outputs; onnxruntime's own type also admits sparse tensors and sequences."""
    return cast("list[Array]", session.run(outputs, feeds))


class Scheduler:
    """Owns the decode thread; `submit` may be called from any thread."""

    def __init__(
        self, cross: ort.InferenceSession, decoder: ort.InferenceSession, vocabulary: Vocabulary, max_rows: int = 32,
        calibrator: Calibrator | None = None,
    ) -> None:  # fmt: skip
        self._cross, self._decoder, self._vocabulary, self._max_rows = cross, decoder, vocabulary, max_rows
        self._calibrator = calibrator or Calibrator()
        shapes = {i.name: i for i in decoder.get_inputs()}
        self._n_layers = sum(name.startswith("past_k_") for name in shapes)
        self._heads, self._width = shapes["past_k_0"].shape[1], shapes["past_k_0"].shape[3]
        self._dtype = np.float16 if "float16" in shapes["past_k_0"].type else np.float32
        self._kv = [f"{kv}_{i}" for i in range(self._n_layers) for kv in "kv"]
        self._outputs = ["logits", "attention", *(f"present_{n}" for n in self._kv)]
        self._waiting: queue.PriorityQueue[tuple[int, int, Job | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._rows: list[_Row] = []
        self._feeds: dict[str, ort.OrtValue] = {}
        self._pads: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._past_length = 0
        self.n_steps = self.n_rows_stepped = 0
        self._thread = threading.Thread(target=self._run, name="whisper-decode", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def n_active(self) -> int:
        return sum(r.alive for r in self._rows)

    @property
    def n_waiting(self) -> int:
        return self._waiting.qsize()

    def submit(self, job: Job) -> None:
        self._waiting.put((0 if job.urgent else 1, next(self._order), job))

    def stop(self) -> None:
        self._waiting.put((-1, 0, None))
        self._thread.join(timeout=5)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            jobs = self._take(block=not self._rows)
            if jobs is None:
                return
            try:
                if jobs:
                    self._admit(jobs)
                if self._rows:
                    self._step()
            except Exception as error:
                log.exception("decode step failed")
                failed = [r.job for r in self._rows if r.alive] + [
                    j for j in jobs if all(r.job is not j for r in self._rows)
                ]
                self._rows, self._feeds = [], {}
                for job in failed:
                    _deliver(job, error)

    def _take(self, block: bool) -> list[Job] | None:
        jobs: list[Job] = []
        while len(jobs) + self.n_active < self._max_rows:
            try:
                _, _, job = self._waiting.get(block=block and not jobs)
            except queue.Empty:
                break
            if job is None:
                return None
            if job.cancelled():
                _deliver(job, Cancelled("cancelled while it waited"))
            else:
                jobs.append(job)
        return jobs

    def _admit(self, jobs: list[Job]) -> None:
        """Prefills the jobs, those of one shape together, and repacks the batch with their rows."""
        groups: dict[tuple[int, int], list[Job]] = {}
        unknown = [job for job in jobs if job.language == AUTO]
        for width in {len(job.hidden) for job in unknown}:
            self._find_language([job for job in unknown if len(job.hidden) == width])
        for job in jobs:
            groups.setdefault((len(job.hidden), len(job.prompt) + len(job.prefix)), []).append(job)
        joined = [row for group in groups.values() for row in self._prefill(group)]
        for row in [r for r in joined if not r.alive]:
            self._finish(row)
        joined = [r for r in joined if r.alive]
        if joined:
            self._repack(joined)

    def first_pass(self, hidden: Array, tokens: npt.NDArray[np.int64]) -> tuple[list[Array], list[Array]]:
        """Cross-attention's keys and values, and the decoder's outputs for `tokens` (B, n) from an empty cache."""
        cross = run(self._cross, [f"cross_{n}" for n in self._kv], {"hidden_states": hidden})
        batch, n = tokens.shape
        causal = np.triu(np.full((n, n), -1e4, self._dtype), 1)
        feeds: dict[str, Array] = {
            "tokens": tokens,
            "positions": np.tile(np.arange(n), (batch, 1)),
            "self_mask": np.tile(causal, (batch, 1, 1, 1)),
            "cross_mask": np.zeros((batch, 1, 1, hidden.shape[1]), self._dtype),
        }
        feeds |= {f"cross_{name}": value for name, value in zip(self._kv, cross, strict=True)}
        feeds |= {f"past_{name}": np.zeros((batch, self._heads, 0, self._width), self._dtype) for name in self._kv}
        return cross, run(self._decoder, self._outputs, feeds)

    def _find_language(self, jobs: list[Job]) -> None:
        """Settles the language of jobs whose windows are of one length: the likeliest after the start token."""
        vocabulary = self._vocabulary
        tokens = np.full((len(jobs), 1), vocabulary.sot, np.int64)
        _, (logits, *_) = self.first_pass(np.stack([j.hidden for j in jobs]), tokens)
        codes, ids = zip(*vocabulary.language_ids.items(), strict=True)
        scores = log_softmax(logits[:, 0, list(ids)])
        for job, row in zip(jobs, scores, strict=True):
            best = int(row.argmax())
            job.language, job.language_probability = codes[best], float(np.exp(row[best]))
            job.prompt = vocabulary.with_language(job.prompt, job.language)

    def _prefill(self, jobs: list[Job]) -> list[_Row]:
        now = time.perf_counter()
        tokens = np.array([j.prompt + j.prefix for j in jobs], np.int64)
        cross, (logits, attention, *present) = self.first_pass(np.stack([j.hidden for j in jobs]), tokens)
        rows: list[_Row] = []
        for i, job in enumerate(jobs):
            first = len(job.prompt) - 1  # the position that predicts the first text token
            start = job.prompt.index(self._vocabulary.sot)
            silent = self._vocabulary.no_speech
            room = LONGEST_TEXT - len(job.prefix)
            before = range(len(job.prefix))
            silence = float(np.exp(log_softmax(logits[i, start])[silent])) if silent is not None else 0.0
            scores = [log_softmax(self._vocabulary.suppress(logits[i, first + k].copy(), first=k == 0)) for k in before]
            row = _Row(
                job,
                [c[i] for c in cross],
                list(job.prefix),
                [float(scores[k][t]) for k, t in enumerate(job.prefix)],
                silence,
                [attention[i, :, first + k] for k in range(len(job.prefix) + 1)],
                [entropy(scores[k]) for k in before] if job.want_words else [],
                min(room, 8 + job.n_samples * TOKENS_PER_SECOND // 16000) + len(job.prefix),
                now,
                rivals=[self._rivals(scores[k], job.prefix[k]) for k in before] if job.n_alternatives else [],
                length=tokens.shape[1],
                past=[p[i] for p in present],
                random=np.random.default_rng((job.n_samples, len(job.attempts))),
            )
            self._choose(row, logits[i, -1])
            rows.append(row)
        return rows

    def _choose(self, row: _Row, logits: Float) -> None:
        """The likeliest allowed token, or one by chance; the row dies at the end of text, at its limit, or in a loop."""
        vocabulary, job = self._vocabulary, row.job
        settled = bool(job.prefix) and len(row.tokens) == len(job.prefix)  # its last word is to stay as it is
        new_word = settled and not job.only_word and job.language not in UNSPACED
        scores = log_softmax(vocabulary.suppress(logits.copy(), first=not row.tokens, new_word=new_word))
        token = draw(scores, job.temperatures[len(job.attempts)], row.random)
        row.logprobs.append(float(scores[token]))
        if token == vocabulary.eot or len(row.tokens) >= row.limit:
            row.alive = False
            return
        if job.only_word and (vocabulary.begins_word(token) or len(row.tokens) >= len(job.prefix) + LONGEST_WORD):
            row.alive = False
            return
        row.tokens.append(token)
        if job.want_words:
            row.entropies.append(entropy(scores))
        if job.n_alternatives:
            row.rivals.append(self._rivals(scores, token))
        loop = repeats(row.tokens)
        if loop > 0:
            del row.tokens[-loop:], row.logprobs[-loop:], row.attention[-loop:]
            row.alive = False

    def _rivals(self, scores: Float, token: int) -> list[tuple[int, float]]:
        """The likeliest other tokens that begin a word."""
        best = np.argsort(scores)[::-1][:12]
        return [(int(t), float(scores[t])) for t in best if t != token and self._vocabulary.begins_word(int(t))]

    def _repack(self, joined: Sequence[_Row] = ()) -> None:
        """Builds the batch anew from the living rows and those that join."""
        for i, row in enumerate(self._rows):
            if row.alive and self._feeds:
                pad = int(self._pads[i])
                row.past = [self._feeds[f"past_{n}"].numpy()[i, :, pad:] for n in self._kv]
        self._rows = [r for r in self._rows if r.alive] + list(joined)
        if not self._rows:
            self._feeds = {}
            return
        self._past_length = max(r.length for r in self._rows)
        frames = max(r.cross[1].shape[1] for r in self._rows)
        batch = len(self._rows)
        self._pads = np.array([self._past_length - r.length for r in self._rows], np.int64)
        mask = np.zeros((batch, 1, 1, frames), self._dtype)
        feeds: dict[str, Array] = {"cross_mask": mask}
        for k, name in enumerate(self._kv):
            past = np.zeros((batch, self._heads, self._past_length, self._width), self._dtype)
            keys = name.startswith("k")
            shape = (batch, self._heads, self._width, frames) if keys else (batch, self._heads, frames, self._width)
            cross = np.zeros(shape, self._dtype)
            for i, row in enumerate(self._rows):
                past[i, :, self._pads[i] :] = row.past[k]
                n = row.cross[1].shape[1]
                cross[(i, slice(None), slice(None), slice(n)) if keys else (i, slice(None), slice(n))] = row.cross[k]
                mask[i, :, :, n:] = -1e4
            feeds[f"past_{name}"], feeds[f"cross_{name}"] = past, cross
        for row in self._rows:
            row.past = []
        self._feeds = {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in feeds.items()}

    def _step(self) -> None:
        """One token for every living row."""
        batch, total = len(self._rows), self._past_length + 1
        mask = np.where(np.arange(total)[None, :] < self._pads[:, None], self._dtype(-1e4), self._dtype(0))
        step = {
            "tokens": np.array([[r.tokens[-1] if r.tokens else 0] for r in self._rows], np.int64),
            "positions": np.array([[r.length] for r in self._rows], np.int64),
            "self_mask": np.ascontiguousarray(mask[:, None, None, :]),
        }
        feeds = self._feeds | {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in step.items()}
        logits_value, attention_value, *present = self._decoder.run_with_ort_values(self._outputs, feeds)
        self._feeds |= {f"past_{n}": v for n, v in zip(self._kv, present, strict=True)}
        self._past_length = total
        logits, attention = logits_value.numpy(), attention_value.numpy()
        self.n_steps += 1
        self.n_rows_stepped += self.n_active
        for i, row in enumerate(self._rows):
            if not row.alive:
                continue
            row.length += 1
            row.attention.append(attention[i, :, 0, : len(row.job.hidden)])  # the batch's widest window is wider
            self._choose(row, logits[i, 0])
            if row.alive and len(row.tokens) % 8 == 0 and row.job.cancelled():
                row.alive = False
            if not row.alive:
                self._finish(row)
        if self.n_active <= batch // 2:
            self._repack()

    def _finish(self, row: _Row) -> None:
        """Answers a row's job, or has it decoded again; what goes wrong with one answer is that job's alone."""
        try:
            answer: Hypothesis | Exception = self._result(row)
            if self._tries_again(row, answer):
                return
            if row.job.n_alternatives and self._asks_for_alternatives(row, answer):
                return
        except Exception as error:
            log.exception("a hypothesis could not be put together")
            answer = error
        _deliver(row.job, answer)

    def _tries_again(self, row: _Row, found: Hypothesis) -> bool:
        """True when the text is doubtful and there is another temperature; at the last, the best attempt is answered."""
        job = row.job
        if len(job.temperatures) == 1 or job.cancelled():
            return False
        if not doubtful(found.text, found.logprobs, found.no_speech_probability):
            return False
        job.attempts.append(found)
        if len(job.attempts) < len(job.temperatures):
            self.submit(job)
        else:
            _deliver(job, max(job.attempts, key=_quality))
        return True

    def _result(self, row: _Row) -> Hypothesis:
        job, vocabulary = row.job, self._vocabulary
        tokens = row.tokens
        hypothesis = Hypothesis(tokens, row.logprobs[: len(tokens)], vocabulary.text(tokens), row.no_speech)
        hypothesis.language, hypothesis.language_probability = job.language, job.language_probability
        hypothesis.temperature = job.temperatures[len(job.attempts)]
        if job.want_words and tokens:
            n_frames = min(len(job.hidden), -(-job.n_samples // FRAME_SAMPLES))
            starts = token_starts(np.stack(row.attention[: len(tokens) + 1], axis=1), n_frames)
            for word in vocabulary.words(tokens, job.language):
                begin, end = int(starts[word.first]), int(starts[min(word.last, len(starts) - 1)])
                end = min(max(end, begin), job.n_samples)
                features = WordFeatures.of(
                    row.logprobs[word.first : word.last], row.entropies[word.first : word.last], end - begin
                )
                hypothesis.words.append(word.text)
                hypothesis.word_tokens.append(word.last - word.first)
                hypothesis.word_times.append((begin, end))
                hypothesis.features.append(features)
                hypothesis.word_probabilities.append(self._calibrator.probability(features))
                hypothesis.word_alternatives.append([])
        now = time.perf_counter()
        hypothesis.queue_ms = (row.admitted - job.created) * 1000
        hypothesis.decode_ms = (now - row.admitted) * 1000
        return hypothesis

    def _asks_for_alternatives(self, row: _Row, found: Hypothesis) -> bool:
        """Has the words that might stand in place of doubted ones decoded; the job is answered when the last is there."""
        job, vocabulary = row.job, self._vocabulary
        if job.language in UNSPACED:
            return False
        firsts = [sum(found.word_tokens[:k]) for k in range(len(found.words))]
        doubted = sorted(
            (k for k, p in enumerate(found.word_probabilities) if p < DOUBTED_WORD and row.rivals[firsts[k]]),
            key=lambda k: found.word_probabilities[k],
        )[:MOST_DOUBTED]
        wanted = [(k, t, p) for k in doubted for t, p in row.rivals[firsts[k]][: job.n_alternatives]]
        left = len(wanted)

        def one(k: int, first: int, logprob: float, result: Hypothesis | Exception) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Hypothesis):
                text = vocabulary.text(result.tokens[first:]).strip()
                others = [t for t, _ in found.word_alternatives[k]]
                if text and text != found.words[k].strip() and text not in others:
                    found.word_alternatives[k].append((text, float(np.exp(logprob))))
            if left == 0:
                _deliver(job, found)

        for k, token, logprob in wanted:
            self.submit(
                Job(
                    job.hidden,
                    job.n_samples,
                    job.prompt,
                    [*found.tokens[: firsts[k]], token],
                    job.language,
                    False,
                    functools.partial(one, k, firsts[k], logprob),
                    job.cancelled,
                    only_word=True,
                )
            )
        return left > 0


def _quality(h: Hypothesis) -> tuple[bool, float]:
    """As faster-whisper chooses among doubtful attempts: no repetition, then the likeliest."""
    return compression(h.text) <= MAX_COMPRESSION, sum(h.logprobs) / len(h.logprobs) if h.logprobs else 0.0
