"""Continuous batching of Whisper's decode: rows of many streams step together, join and leave at any step.

One thread owns the graphs. A job is prefilled alone or with jobs of the same shape (prompt and committed tokens in one
pass), then its rows, as many as `search.py` follows, join the running batch, where `growing.py` or `slots.py` compute.
"""

from __future__ import annotations

import functools
import itertools
import logging
import queue
import threading
import time

import numpy as np

from .alignment import FRAME_SAMPLES, token_starts
from .batch import Ask, Batch
from .confidence import Calibrator, WordFeatures
from .jobs import Cancelled, Hypothesis, Job
from .scores import MAX_COMPRESSION, WIDEST, Ranking, Rule, compression, doubtful
from .search import Row, Search, rule_after
from .vocabulary import AUTO, UNSPACED, Vocabulary

log = logging.getLogger(__name__)

TOKENS_PER_SECOND = 12
"""Nobody speaks faster than this in tokens of any Whisper vocabulary; it bounds a decode that has gone astray."""
LONGEST_TEXT = 224  # tokens, half of Whisper's context, as in its reference
DOUBTED_WORD = 0.6
"""Words less probable than this get alternatives."""
MOST_DOUBTED = 5
"""Words of one hypothesis that get alternatives, the least probable first."""


def _deliver(job: Job, answer: Hypothesis | Exception) -> None:
    """An answer that nobody can take harms no other job."""
    try:
        job.done(answer)
    except Exception:
        log.exception("an answer could not be delivered")


class Scheduler:
    """Owns the decode thread; `submit` may be called from any thread."""

    def __init__(
        self, batch: Batch, vocabulary: Vocabulary, max_rows: int = 32, calibrator: Calibrator | None = None
    ) -> None:
        self.batch, self._vocabulary, self._max_rows = batch, vocabulary, max_rows
        self._calibrator = calibrator or Calibrator()
        self._waiting: queue.PriorityQueue[tuple[int, int, Job | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._searches: list[Search] = []
        self.n_steps = self.n_rows_stepped = 0
        self.busy_s = 0.0
        """Time that the thread did not wait for jobs."""
        self._thread = threading.Thread(target=self._run, name="whisper-decode", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def n_active(self) -> int:
        """Rows that step together."""
        return sum(len(s.rows) for s in self._searches)

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
            jobs = self._take(block=not self._searches)
            if jobs is None:
                return
            began = time.perf_counter()
            try:
                if jobs:
                    self._admit(jobs)
                if self._searches:
                    self._step()
            except Exception as error:
                log.exception("decode step failed")
                failed = [s.job for s in self._searches if not s.over]
                failed += [j for j in jobs if all(s.job is not j for s in self._searches)]
                self._searches = []
                self.batch.clear()
                for job in failed:
                    _deliver(job, error)
            self.busy_s += time.perf_counter() - began

    def _take(self, block: bool) -> list[Job] | None:
        """The next jobs that there are rows for; a wide one is not overtaken."""
        jobs: list[Job] = []
        room = self._max_rows - sum(s.width for s in self._searches)
        while room > 0 and len(jobs) < self.batch.most_at_once:
            try:
                first = self._waiting.get(block=block and not jobs)
            except queue.Empty:
                break
            job = first[-1]
            if job is None:
                return None
            if job.cancelled():
                _deliver(job, Cancelled("cancelled while it waited"))
                continue
            job.beam_size = max(1, min(job.beam_size, self._max_rows, WIDEST))
            if job.width > room:
                self._waiting.put(first)
                break
            jobs.append(job)
            room -= job.width
        return jobs

    def _admit(self, jobs: list[Job]) -> None:
        """Prefills the jobs, those of one shape together, and has their rows join the batch."""
        groups: dict[tuple[int, int], list[Job]] = {}
        unknown = [job for job in jobs if job.language == AUTO]
        for width in {len(job.window) for job in unknown}:
            self._find_language([job for job in unknown if len(job.window) == width])
        for job in jobs:
            groups.setdefault((len(job.window), len(job.prompt) + len(job.prefix)), []).append(job)
        begun = [search for group in groups.values() for search in self._prefill(group)]
        for search in [s for s in begun if s.over]:
            self._finish(search)
        begun = [s for s in begun if not s.over]
        if begun:
            self.batch.join([seat for s in begun for seat in s.seats])
            self._searches += begun

    def _find_language(self, jobs: list[Job]) -> None:
        """Settles the language of jobs whose windows are of one length: the likeliest after the start token."""
        vocabulary = self._vocabulary
        tokens = np.full((len(jobs), 1), vocabulary.sot, np.int64)
        asks = [[Ask(0, Rule.LANGUAGE)]] * len(jobs)
        codes = {token: code for code, token in vocabulary.language_ids.items()}
        for job, seen in zip(jobs, self.batch.prefill([j.window for j in jobs], tokens, asks), strict=True):
            token, logprob = seen.rankings[0].best(1)[0]
            job.language, job.language_probability = codes[token], float(np.exp(logprob))
            job.prompt = vocabulary.with_language(job.prompt, job.language)

    def _asks(self, job: Job) -> list[Ask]:
        """The probability of silence, that of every committed token, and what comes after them."""
        first = len(job.prompt) - 1  # the position that predicts the first text token
        silence = Ask(job.prompt.index(self._vocabulary.sot), Rule.ANYTHING, self._vocabulary.no_speech or 0)
        forced = [Ask(first + k, Rule.TEXT if k else Rule.FIRST, token) for k, token in enumerate(job.prefix)]
        return [silence, *forced, Ask(first + len(job.prefix), rule_after(job, job.prefix))]

    def _prefill(self, jobs: list[Job]) -> list[Search]:
        tokens = np.array([j.prompt + j.prefix for j in jobs], np.int64)
        admitted = time.perf_counter()
        seen = self.batch.prefill([j.window for j in jobs], tokens, [self._asks(j) for j in jobs])
        silent = self._vocabulary.no_speech
        searches: list[Search] = []
        for job, one in zip(jobs, seen, strict=True):
            silence, *forced, last = one.rankings
            told = [ranking.logprob(token) for ranking, token in zip(forced, job.prefix, strict=True)]
            row = Row(one.seat, list(job.prefix), told, one.attention[1:], one.seat)
            room = LONGEST_TEXT - len(job.prefix)
            search = Search(
                job,
                self._vocabulary,
                [row],
                limit=min(room, 8 + job.n_samples * TOKENS_PER_SECOND // 16000) + len(job.prefix),
                no_speech=float(np.exp(silence.logprob(silent))) if silent is not None else 0.0,
                encode_ms=one.encode_ms,
                admitted=admitted,
            )
            for ranking, token in zip(forced, job.prefix, strict=True):
                search.note(row, ranking, token)
            search.advance([last], [self.batch.fork(one.seat) for _ in range(search.width - 1)])
            searches.append(search)
        return searches

    def _step(self) -> None:
        """One token for every row."""
        found = iter(self.batch.step([turn for s in self._searches for turn in s.turns()]))
        self.n_steps += 1
        self.n_rows_stepped += self.n_active
        for search in self._searches:
            rankings: list[Ranking] = []
            for row in search.rows:
                ranking, attention = next(found)
                row.attention.append(attention)
                rankings.append(ranking)
            left = search.advance(rankings)
            if not search.over and len(search.rows[0].tokens) % 8 == 0 and search.job.cancelled():
                search.cancelled = True
            for seat in [*left, *search.seats] if search.over else left:
                self.batch.leave(seat)
            if search.over:
                self._finish(search)
        self._searches = [s for s in self._searches if not s.over]

    def _finish(self, search: Search) -> None:
        """Answers a job, or has it decoded again; what goes wrong with one answer is that job's alone."""
        row = search.best()
        try:
            answer: Hypothesis | Exception = self._result(search, row)
            if self._tries_again(search.job, answer):
                return
            if search.job.n_alternatives and self._asks_for_alternatives(search.job, row, answer):
                return
        except Exception as error:
            log.exception("a hypothesis could not be put together")
            answer = error
        _deliver(search.job, answer)

    def _tries_again(self, job: Job, found: Hypothesis) -> bool:
        """True when the text is doubtful and there is another temperature; at the last, the best attempt is answered."""
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

    def _result(self, search: Search, row: Row) -> Hypothesis:
        job, vocabulary, tokens = search.job, self._vocabulary, row.tokens
        hypothesis = Hypothesis(tokens, row.logprobs[: len(tokens)], vocabulary.text(tokens), search.no_speech)
        hypothesis.language, hypothesis.language_probability = job.language, job.language_probability
        hypothesis.temperature = search.temperature
        if job.want_words and tokens:
            n_frames = min(row.seat.frames, -(-job.n_samples // FRAME_SAMPLES))
            starts = token_starts(np.stack(row.attention[: len(tokens) + 1], axis=1), n_frames)
            likely = sum(hypothesis.logprobs) / len(tokens)
            for word in vocabulary.words(tokens, job.language):
                begin, end = int(starts[word.first]), int(starts[min(word.last, len(starts) - 1)])
                end = min(max(end, begin), job.n_samples)
                features = WordFeatures.of(
                    row.logprobs[word.first : word.last], row.entropies[word.first : word.last], end - begin, likely
                )
                hypothesis.words.append(word.text)
                hypothesis.word_tokens.append(word.last - word.first)
                hypothesis.word_times.append((begin, end))
                hypothesis.features.append(features)
                hypothesis.word_probabilities.append(self._calibrator.probability(features))
                hypothesis.word_alternatives.append([])
        now = time.perf_counter()
        hypothesis.encode_ms = search.encode_ms
        hypothesis.queue_ms = (search.admitted - job.created) * 1000
        hypothesis.decode_ms = (now - search.admitted) * 1000
        return hypothesis

    def _asks_for_alternatives(self, job: Job, row: Row, found: Hypothesis) -> bool:
        """Has the words that might stand in place of doubted ones decoded; the job is answered when the last is there."""
        vocabulary = self._vocabulary
        if job.language in UNSPACED:
            return False
        firsts = [sum(found.word_tokens[:k]) for k in range(len(found.words))]
        doubted = sorted(
            (k for k, p in enumerate(found.word_probabilities) if p < DOUBTED_WORD and row.rivals[firsts[k]]),
            key=lambda k: found.word_probabilities[k],
        )[:MOST_DOUBTED]
        wanted = [(k, t, p) for k in doubted for t, p in row.rivals[firsts[k]][: job.n_alternatives]]
        left = len(wanted)
        heard: dict[int, dict[str, float]] = {k: {} for k in doubted}

        def one(k: int, first: int, logprob: float, result: Hypothesis | Exception) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Hypothesis):
                text = vocabulary.text(result.tokens[first:]).strip()
                if text and text != found.words[k].strip():  # tokens that begin differently may spell the same
                    heard[k][text] = max(heard[k].get(text, 0.0), float(np.exp(logprob)))
            if left == 0:
                for doubted_word, others in heard.items():
                    found.word_alternatives[doubted_word] = sorted(others.items(), key=lambda o: -o[1])
                _deliver(job, found)

        for k, token, logprob in wanted:
            self.submit(
                Job(
                    job.window,
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
