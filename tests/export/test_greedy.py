"""The decode engine finds the tokens that `transformers` finds by greedy search with the same checkpoint."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from export.checkpoint import open_checkpoint
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.scores import repeats
from export.engine.vocabulary import Vocabulary
from export.nano.features import log_mel
from export.repository import NANO
from tests.export.checkpoints import Graphs
from tests.export.recordings import padded

SENTENCES = [
    "The train to London leaves at half past three.",
    "Please open the window in the kitchen.",
    "My phone number is four seven two nine three.",
    "The meeting is on Tuesday, the third of May.",
    "I think Peter found his wallet yesterday.",
    "The old woman walked through the garden slowly.",
    "Where did they send the letter?",
    "It is raining in Dublin today.",
    "She sells bread at the market every Friday.",
    "We need seven eggs and twelve cups.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nano")


@pytest.fixture(scope="module")
def graphs(folder: Path) -> Graphs:
    return Graphs(open_checkpoint(str(NANO)), folder)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    generation = open_checkpoint(str(NANO)).generation
    return Vocabulary(NANO / "tokenizer.json", generation, multilingual=False)


@pytest.fixture
def scheduler(graphs: Graphs, folder: Path, vocabulary: Vocabulary) -> Iterator[Scheduler]:
    loaded = sessions(folder, ["CPUExecutionProvider"], threads=1)
    running = Scheduler(Growing(loaded["cross"], loaded["decoder"], vocabulary), vocabulary)
    yield running
    running.stop()
    assert not running.alive


@pytest.fixture(scope="module")
def spoken(speak) -> list[np.ndarray]:
    return [speak(s).audio for s in SENTENCES]


@pytest.fixture(scope="module")
def hidden(graphs: Graphs, spoken: list[np.ndarray]) -> list[np.ndarray]:
    return [graphs.encode(padded(audio)) for audio in spoken]


@pytest.fixture(scope="module")
def expected(spoken: list[np.ndarray], vocabulary: Vocabulary) -> list[list[int]]:
    model = WhisperForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32).eval()
    features = np.stack([log_mel(padded(a).astype(np.float32) / 32768) for a in spoken])
    found = model.generate(
        torch.from_numpy(features),
        decoder_input_ids=torch.tensor([vocabulary.prompt()] * len(spoken)),
        do_sample=False,
        num_beams=1,
        max_new_tokens=120,
        suppress_tokens=list(range(vocabulary.eot + 1, model.config.vocab_size)),  # plain text only
        return_timestamps=False,
    )
    return [[t for t in row if t < vocabulary.eot] for row in found.tolist()]


def _submit(scheduler: Scheduler, vocabulary: Vocabulary, hidden: np.ndarray, n_samples: int) -> queue.Queue:
    answer: queue.Queue[Hypothesis | Exception] = queue.Queue()
    scheduler.submit(Job(hidden, n_samples, vocabulary.prompt(), [], "en", want_words=False, done=answer.put))
    return answer


def _tokens(answer: queue.Queue) -> list[int]:
    result = answer.get(timeout=60)
    assert isinstance(result, Hypothesis), result
    return result.tokens


def _same(found: list[int], wanted: list[int], n_samples: int) -> None:
    """Equal, or cut where transformers went on in circles or beyond what anybody says in that time."""
    assert found == wanted[: len(found)]
    if found != wanted:
        limit = 8 + n_samples * 12 // 16000
        loops = any(repeats(wanted[:n]) for n in range(len(found), len(wanted) + 1))
        assert loops or len(found) == limit, (found, wanted)


def test_each_sentence_alone_gives_the_tokens_of_transformers(scheduler, vocabulary, hidden, spoken, expected):
    for window, audio, wanted in zip(hidden, spoken, expected, strict=True):
        _same(_tokens(_submit(scheduler, vocabulary, window, len(audio))), wanted, len(audio))
    assert sum(map(len, expected)) > 30  # something was said


def test_all_sentences_in_one_running_batch_give_the_tokens_of_transformers(scheduler, vocabulary, hidden, spoken, expected):
    answers = [_submit(scheduler, vocabulary, h, len(a)) for h, a in zip(hidden, spoken, strict=True)]
    for answer, audio, wanted in zip(answers, spoken, expected, strict=True):
        _same(_tokens(answer), wanted, len(audio))
    assert scheduler.n_rows_stepped > 2 * scheduler.n_steps  # they did share steps


def test_sentences_that_join_a_running_batch_give_the_tokens_of_transformers(
    scheduler, vocabulary, hidden, spoken, expected
):
    answers = [_submit(scheduler, vocabulary, hidden[0], len(spoken[0]))]
    for i in range(1, len(hidden)):
        before = scheduler.n_steps
        while scheduler.n_steps == before and answers[-1].empty():
            pass  # the next one comes at another step
        answers.append(_submit(scheduler, vocabulary, hidden[i], len(spoken[i])))
    for answer, audio, wanted in zip(answers, spoken, expected, strict=True):
        _same(_tokens(answer), wanted, len(audio))


def test_the_language_is_the_likeliest_one_after_the_start_token(
    hidden: list[np.ndarray], spoken: list[np.ndarray], folder: Path, tmp_path: Path
):
    """With the tokens behind the start token taken for languages, whatever they were trained as."""
    text = (NANO / "tokenizer.json").read_text("utf-8")
    renamed = [("transcribe", "fr"), ("translate", "de"), ("startoflm", "translate"), ("0.00", "transcribe")]
    for old, new in renamed:
        text = text.replace(f"<|{old}|>", f"<|{new}|>")
    (tmp_path / "tokenizer.json").write_text(text)
    vocabulary = Vocabulary(tmp_path / "tokenizer.json", {}, multilingual=True)
    assert vocabulary.languages == ["en", "de", "fr"]
    loaded = sessions(folder, ["CPUExecutionProvider"], threads=1)
    scheduler = Scheduler(Growing(loaded["cross"], loaded["decoder"], vocabulary), vocabulary)
    model = WhisperForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32).eval()
    try:
        for window, audio in list(zip(hidden, spoken, strict=True))[:4]:
            answers: queue.Queue = queue.Queue()
            prompt = vocabulary.prompt("auto")
            scheduler.submit(Job(window, len(audio), prompt, [], "auto", False, answers.put))
            found = answers.get(timeout=60)
            assert isinstance(found, Hypothesis), found
            features = torch.from_numpy(log_mel(padded(audio).astype(np.float32) / 32768)[None])
            with torch.no_grad():
                logits = model(features, decoder_input_ids=torch.tensor([[vocabulary.sot]])).logits[0, 0]
            chances = logits[list(vocabulary.language_ids.values())].softmax(-1)
            assert found.language == vocabulary.languages[int(chances.argmax())]
            assert found.language_probability == pytest.approx(float(chances.max()), abs=0.01)
    finally:
        scheduler.stop()
