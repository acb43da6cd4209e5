"""The offline pass says what other readers of the same checkpoint say of the same audio."""

from __future__ import annotations

import logging
import random
import warnings

import numpy as np
import pytest

from bench.parity import PEERS, SAME, WER_POINTS, WINDOW_S, Text, agreement, ours, same
from export.nano import texts
from export.repository import NANO

N = 40
VOICES = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029")


@pytest.fixture(scope="module")
def spoken(speak) -> list[tuple[str, np.ndarray]]:
    r = random.Random(5)
    sentences = texts.corpus(N, 31, held_out=True)[:N]
    return [(text, speak(text, r.choice(VOICES), r.uniform(0.9, 1.15)).audio) for text in sentences]


@pytest.fixture(scope="module")
def our_texts(spoken) -> list[Text]:
    return ours(NANO, [audio for _, audio in spoken], WINDOW_S)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PEERS)
def test_the_tokens_and_the_word_error_rate_are_those_of_the_peer(name: str, spoken, our_texts: list[Text]):
    clips = [audio for _, audio in spoken]
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own
        theirs = PEERS[name](NANO, clips)
    found = agreement(our_texts, theirs, clips, [text for text, _ in spoken])
    assert len(spoken) == N
    assert sum(len(t.tokens) for t in our_texts) > 5 * N  # something was said
    assert found.same >= SAME, found
    assert found.wer_difference <= WER_POINTS, found


def test_only_a_text_that_the_engine_ended_may_be_shorter():
    assert same([1, 2, 3], [1, 2, 3], 32_000)
    assert not same([1, 2], [1, 2, 3], 32_000)
    assert not same([1, 2, 4], [1, 2, 3], 32_000)
    assert same([1, 2, 3], [1, 2, 3] * 4, 32_000)  # a loop
    limit = 8 + 2 * 12
    assert same(list(range(limit)), list(range(limit + 9)), 32_000)
