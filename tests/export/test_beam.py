"""A beam gives what openai/whisper's gives, alone or in company."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from export.checkpoint import open_checkpoint
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.vocabulary import Vocabulary
from export.nano.features import log_mel
from export.repository import NANO
from tests.export.checkpoints import Graphs

SENTENCES = (
    "The train leaves at half past three.",
    "Yes.",
    "Sundry sciences commonly known as social.",
    "Please open the window in the kitchen.",
    "The snake charmer fascinates the cobra.",
    "A crenellated molding.",
)
WIDTH = 5


class Reference:
    """openai/whisper's `BeamSearchDecoder` and `MaximumLikelihoodRanker`, nothing kept from step to step."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.model = WhisperForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32).eval()

    @torch.no_grad()
    def search(self, audio: np.ndarray, prefix: Sequence[int] = ()) -> list[int]:
        """The text's tokens. Whatever is committed stands before; its last word stays as it is."""
        model, eot, prompt = self.model, self.vocabulary.eot, self.vocabulary.prompt()
        mel = torch.from_numpy(log_mel(audio.astype(np.float32) / 32768)[None])
        encoder = model.model.encoder
        x = torch.nn.functional.gelu(encoder.conv2(torch.nn.functional.gelu(encoder.conv1(mel)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            x = layer(x, None)
            x = x[0] if isinstance(x, tuple) else x
        hidden = encoder.layer_norm(x)
        rows: list[tuple[float, list[int]]] = [(0.0, [*prefix])]
        ended: list[tuple[float, list[int]]] = []
        while len(ended) < WIDTH:
            ids = torch.tensor([prompt + tokens for _, tokens in rows])
            found = model.model.decoder(input_ids=ids, encoder_hidden_states=hidden.expand(len(rows), -1, -1))
            logits = model.proj_out(found.last_hidden_state[:, -1]).numpy().copy()
            grown: list[tuple[float, list[int]]] = []
            for (score, tokens), row in zip(rows, logits, strict=True):
                new_word = bool(prefix) and len(tokens) == len(prefix)
                allowed = self.vocabulary.suppress(row, first=not tokens, new_word=new_word)
                likely = torch.from_numpy(allowed).log_softmax(-1).topk(WIDTH + 1)
                grown += [(score + p, [*tokens, t]) for p, t in zip(*(v.tolist() for v in likely), strict=True)]
            rows = []
            for score, tokens in sorted(grown, key=lambda g: -g[0]):
                if len(rows) == WIDTH or len(ended) == WIDTH:
                    break
                (ended if tokens[-1] == eot else rows).append((score, tokens))
        return max(ended, key=lambda e: e[0] / (len(e[1]) - len(prefix)))[1][:-1]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(NANO / "tokenizer.json", {}, multilingual=False)


@pytest.fixture(scope="module")
def spoken(speak) -> list[np.ndarray]:
    out: list[np.ndarray] = []
    for audio in (speak(s).audio for s in SENTENCES):
        window = np.zeros(-(-len(audio) // 16_000) * 16_000, np.int16)
        window[: len(audio)] = audio
        out.append(window)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nano")


@pytest.fixture(scope="module")
def hidden(folder: Path, spoken) -> list[np.ndarray]:
    graphs = Graphs(open_checkpoint(str(NANO)), folder)
    return [graphs.encode(window) for window in spoken]


@pytest.fixture
def scheduler(hidden, folder: Path, vocabulary: Vocabulary) -> Iterator[Scheduler]:
    loaded = sessions(folder, ["CPUExecutionProvider"], threads=1)
    running = Scheduler(Growing(loaded["cross"], loaded["decoder"], vocabulary), vocabulary, max_rows=3 * WIDTH + 2)
    yield running
    running.stop()
    assert not running.alive


def ask(scheduler: Scheduler, window: np.ndarray, beam_size: int = WIDTH, **options: object) -> queue.Queue:
    answer: queue.Queue = queue.Queue()
    given = {"prompt": scheduler._vocabulary.prompt(), "prefix": [], "language": "en", "want_words": True} | options
    scheduler.submit(Job(window, len(window) * 320, done=answer.put, beam_size=beam_size, **given))  # type: ignore[arg-type]
    return answer


def answered(answer: queue.Queue) -> Hypothesis:
    found = answer.get(timeout=60)
    assert isinstance(found, Hypothesis), found
    return found


@pytest.fixture(scope="module")
def expected(vocabulary: Vocabulary, spoken) -> list[list[int]]:
    reference = Reference(vocabulary)
    return [reference.search(audio) for audio in spoken]


def test_each_sentence_alone_gives_the_tokens_of_the_reference(scheduler, hidden, expected):
    assert [answered(ask(scheduler, h)).tokens for h in hidden] == expected


def test_sentences_in_company_of_others_greedy_or_not_give_the_tokens_they_give_alone(scheduler, hidden, expected):
    greedy = [answered(ask(scheduler, h, 1)).tokens for h in hidden]
    assert greedy != expected, "a beam finds nothing else: this test shows little"
    asked = [(ask(scheduler, h), ask(scheduler, h, 1)) for h in hidden for _ in range(2)]
    assert [answered(wide).tokens for wide, _ in asked] == [e for e in expected for _ in range(2)]
    assert [answered(narrow).tokens for _, narrow in asked] == [g for g in greedy for _ in range(2)]
    assert scheduler.n_active == 0


def test_what_is_committed_stands(scheduler, vocabulary, spoken, hidden, expected):
    reference = Reference(vocabulary)
    for window, audio, tokens in zip(hidden, spoken, expected, strict=True):
        prefix = tokens[: len(tokens) // 2]
        found = answered(ask(scheduler, window, prefix=prefix))
        assert found.tokens[: len(prefix)] == prefix
        assert found.tokens == reference.search(audio, prefix)


def test_each_word_has_the_numbers_of_the_text_it_stands_in(scheduler, hidden, expected):
    """A beam's texts part and part again; what is told of a word must be of its own text."""
    for window, tokens in zip(hidden, expected, strict=True):
        wide = answered(ask(scheduler, window, n_alternatives=2))
        forced = answered(ask(scheduler, window, 1, prefix=tokens))
        assert forced.tokens[: len(tokens)] == tokens
        np.testing.assert_allclose(wide.logprobs, forced.logprobs[: len(tokens)], atol=1e-3)
        n = len(wide.words) - 1  # the last one's end is known only from what comes next
        assert wide.words[:n] == forced.words[:n]
        assert wide.word_times[:n] == forced.word_times[:n]
        assert len(wide.word_alternatives) == len(wide.word_probabilities) == len(wide.words)


def test_a_beam_wider_than_the_batch_is_as_wide_as_the_batch(scheduler, hidden):
    assert answered(ask(scheduler, hidden[0], 100)).text


def test_a_beam_that_is_cancelled_gives_all_its_rows_back(scheduler, hidden, expected):
    asked = iter([False])
    answers = [ask(scheduler, hidden[0], cancelled=lambda: next(asked, True)) for _ in range(4)]
    for answer in answers:
        answer.get(timeout=60)
    assert [answered(ask(scheduler, h)).tokens for h in hidden] == expected
    assert scheduler.n_active == 0
