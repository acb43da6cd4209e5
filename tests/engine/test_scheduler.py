"""The decode thread by itself: every job is answered once, whatever becomes of it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from export.checkpoint import open_checkpoint
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.vocabulary import Vocabulary
from export.repository import NANO
from tests.export.checkpoints import local_session

Answers = queue.Queue


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    generation = open_checkpoint(str(NANO)).generation
    return Vocabulary(NANO / "tokenizer.json", generation, multilingual=False)


@pytest.fixture
def scheduler(repository, vocabulary: Vocabulary) -> Iterator[Scheduler]:
    loaded = sessions(repository / "whisper_nano" / "1", ["CPUExecutionProvider"], threads=1)
    running = Scheduler(Growing(loaded["cross"], loaded["decoder"], vocabulary), vocabulary, max_rows=2)
    yield running
    running.stop()
    assert not running.alive


@pytest.fixture(scope="module")
def window(repository, spoken) -> tuple[np.ndarray, int]:
    """Hidden states of a sentence, and its samples."""
    audio = spoken[0][: len(spoken[0]) // 320 * 320]
    encoder = local_session(repository / "whisper_nano_encoder" / "1" / "model.onnx")
    return encoder.run(["hidden_states"], {"audio": audio[None]})[0][0], len(audio)


Submit = Callable[..., Answers]


@pytest.fixture
def submit(scheduler: Scheduler, vocabulary: Vocabulary, window) -> Submit:
    def one(hidden: np.ndarray = window[0], cancelled: Callable[[], bool] = lambda: False, prefix=()) -> Answers:
        answers: Answers = queue.Queue()
        prompt = vocabulary.prompt()
        scheduler.submit(
            Job(hidden, window[1], prompt, list(prefix), "en", want_words=True, done=answers.put, cancelled=cancelled)
        )
        return answers

    return one


def test_more_jobs_than_rows_are_all_answered_alike(submit: Submit):
    answers = [submit() for _ in range(9)]
    found = [a.get(timeout=30) for a in answers]
    assert len({tuple(h.tokens) for h in found}) == 1
    assert found[0].tokens
    for one in found:
        assert one.words == found[0].words
        assert one.queue_ms >= 0
        assert one.decode_ms > 0
    assert found[-1].queue_ms > found[0].queue_ms  # it waited for a row


def test_rows_of_shorter_windows_that_join_a_batch_of_a_longer_one_have_the_words_they_have_alone(
    submit: Submit, scheduler: Scheduler, window
):
    """And the other way round: the batch is as wide as its longest window, at any moment."""
    hidden = window[0]
    long, short = np.concatenate([hidden, np.zeros_like(hidden)]), hidden
    alone = [submit(hidden=h).get(timeout=30) for h in (long, short)]
    for first, second in ((0, 1), (1, 0)):
        before = scheduler.n_steps
        one = submit(hidden=(long, short)[first])
        while scheduler.n_steps == before and one.empty():
            time.sleep(0)
        other = submit(hidden=(long, short)[second])
        for answers, expected in ((one, alone[first]), (other, alone[second])):
            found = answers.get(timeout=30)
            assert isinstance(found, Hypothesis), found
            assert (found.tokens, found.words, found.word_times) == (
                expected.tokens,
                expected.words,
                expected.word_times,
            )


def test_a_job_cancelled_while_it_waits_is_answered_too(submit: Submit):
    """Whoever holds its request can let it go only then: an unanswered one leaks in Triton."""
    running = [submit() for _ in range(4)]
    waiting = submit(cancelled=lambda: True)
    for answers in running:
        assert isinstance(answers.get(timeout=30), Hypothesis)
    submit().get(timeout=30)  # the cancelled one's turn has passed
    assert not waiting.empty()


def test_a_job_cancelled_while_it_runs_is_answered_and_gives_its_row_back(submit: Submit, scheduler: Scheduler):
    asked = iter([False])  # when it is taken up, it is still wanted
    answers = submit(cancelled=lambda: next(asked, True))
    answers.get(timeout=30)
    assert isinstance(submit().get(timeout=30), Hypothesis)
    assert scheduler.n_active == 0


def test_a_job_that_cannot_be_run_fails_alone_in_time_and_the_thread_lives_on(submit: Submit, scheduler: Scheduler):
    broken = submit(hidden=np.zeros((10, 7), np.float32))
    assert isinstance(broken.get(timeout=30), Exception)
    assert scheduler.alive
    assert isinstance(submit().get(timeout=30), Hypothesis)


def test_an_answer_that_cannot_be_delivered_harms_no_other_job(
    submit: Submit, scheduler: Scheduler, vocabulary: Vocabulary, window
):
    """What goes wrong at the end of one row is that row's own."""

    def fails(_: object) -> None:
        raise RuntimeError("nobody takes it")

    hidden, n = window
    scheduler.submit(Job(hidden, n, vocabulary.prompt(), [], "en", want_words=True, done=fails))
    answers = [submit() for _ in range(3)]
    for found in (a.get(timeout=30) for a in answers):
        assert isinstance(found, Hypothesis), found
    assert scheduler.alive


def test_each_job_is_answered_exactly_once(submit: Submit):
    good, broken = [submit() for _ in range(3)], submit(hidden=np.zeros((10, 7), np.float32))
    for answers in [*good, broken]:
        answers.get(timeout=30)
    submit().get(timeout=30)
    assert all(a.empty() for a in [*good, broken])


def test_committed_tokens_begin_the_hypothesis_and_have_probabilities(submit: Submit, vocabulary: Vocabulary):
    prefix = submit().get(timeout=30).tokens[:3]
    other = list(reversed(prefix))
    found = submit(prefix=other).get(timeout=30)
    assert found.tokens[:3] == other
    assert len(found.logprobs) == len(found.tokens)
    assert len(found.words) == len(found.word_times) == len(found.word_probabilities)
    assert vocabulary.text(found.tokens) == found.text


def test_a_doubtful_text_is_decoded_again_at_higher_temperatures_and_the_same_way_each_time(
    scheduler: Scheduler, vocabulary: Vocabulary, window
):
    hidden, n = window
    r = np.random.default_rng(5)
    nonsense = r.standard_normal(hidden.shape).astype(np.float32)  # what no encoder would say: the decoder guesses
    temperatures = (0.0, 0.4, 0.8)
    found: list[Hypothesis] = []
    for _ in range(2):
        answers: Answers = queue.Queue()
        job = Job(nonsense, n, vocabulary.prompt(), [], "en", True, answers.put, temperatures=temperatures)
        scheduler.submit(job)
        found.append(answers.get(timeout=30))
        assert answers.empty()
        assert len(job.attempts) >= 1, "the first text was not doubtful: this test shows nothing"
    assert found[0].tokens == found[1].tokens
    assert found[0].temperature in temperatures
    assert len(found[0].tokens) == len(found[0].logprobs)


def test_a_text_that_is_not_doubtful_is_decoded_once(submit: Submit, scheduler: Scheduler, vocabulary: Vocabulary, window):
    answers: Answers = queue.Queue()
    job = Job(*window, vocabulary.prompt(), [], "en", True, answers.put, temperatures=(0.0, 0.4))
    scheduler.submit(job)
    found = answers.get(timeout=30)
    assert found.temperature == 0.0
    assert job.attempts == []
    assert found.tokens == submit().get(timeout=30).tokens


def test_a_final_goes_ahead_of_partials_that_wait(scheduler: Scheduler, vocabulary: Vocabulary, window):
    order: queue.Queue = queue.Queue()

    def job(name: str, urgent: bool) -> Job:
        return Job(*window, vocabulary.prompt(), [], "en", True, lambda _: order.put(name), urgent=urgent)

    for i in range(8):
        scheduler.submit(job(f"partial {i}", urgent=False))
    scheduler.submit(job("final", urgent=True))
    answered = [order.get(timeout=30) for _ in range(9)]
    assert answered.index("final") <= 4  # behind those that had a row already
