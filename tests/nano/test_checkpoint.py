"""The checkpoint in the box: small enough, what its card says, and as good as promised."""

from __future__ import annotations

import random
import string
from pathlib import Path

import numpy as np
import pytest

from export.checkpoint import open_checkpoint
from export.engine.scores import Rule
from export.nano import synth
from export.nano.evaluate import Recogniser, word_errors
from export.repository import IN_THE_BOX, NANO, export_whisper, vocabulary

PROMISED_WER = 15.0
SENTENCES = [
    "My phone number is four seven two nine three.",
    "The meeting is on Tuesday, the third of May.",
    "Could you open the window, please?",
    "I think Peter found his wallet yesterday.",
    "The old woman walked through the garden slowly.",
    "Where did they send the letter?",
    "Please restart the server.",
    "It is raining in Dublin today.",
    "She sells bread at the market every Friday.",
    "Turn left, then go straight through the forest.",
    "The red bottle was under the small table.",
    "We need seven eggs and twelve cups.",
]


@pytest.fixture(scope="module")
def recogniser():
    with_words = Recogniser(NANO)
    yield with_words
    with_words.close()


@pytest.mark.parametrize("name", IN_THE_BOX)
def test_they_are_small(name: str, tmp_path: Path):
    assert sum(p.stat().st_size for p in IN_THE_BOX[name].iterdir()) <= 25_000_000
    export_whisper(str(IN_THE_BOX[name]), tmp_path, precision="int8")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.onnx")) <= 13_000_000


@pytest.mark.parametrize("name", IN_THE_BOX)
def test_a_text_may_begin_with_any_letter(name: str):
    """A small vocabulary spells some beginnings with a bare space first, which official checkpoints never begin with."""
    checkpoint = open_checkpoint(str(IN_THE_BOX[name]))
    rules = vocabulary(checkpoint).rules(len(checkpoint.tensor("decoder.embed_tokens.weight")))
    for letter in string.ascii_letters:
        first = checkpoint.tokenizer.encode(f" {letter}o", add_special_tokens=False).ids[0]
        assert rules[Rule.FIRST, first] == 0, letter


def test_it_has_a_card():
    card = (NANO / "README.md").read_text()
    for word in (
        "license: apache-2.0",
        "WordNet",
        "espeak-ng",
        "kathleen",
        "real speech wants a real Whisper",
        "Word error rates",
    ):
        assert word in card


def test_it_keeps_its_promise_on_sentences_in_voices_it_knows(recogniser: Recogniser, speak):
    r = random.Random(4)
    voices = [v for v in (synth.seen_voice(r) for _ in range(60)) if v.engine == "espeak"][: len(SENTENCES)]
    clips = [synth.synthesise(t, v).audio for t, v in zip(SENTENCES, voices, strict=True)]
    score = word_errors(SENTENCES, [h.text for h in recogniser.transcribe(clips)])
    assert score.wer <= PROMISED_WER, score


def test_word_times_are_those_of_the_synthesiser(recogniser: Recogniser, speak):
    errors: list[float] = []
    for text in SENTENCES:
        said = speak(text, "en")
        (found,) = recogniser.transcribe([said.audio], words=True)
        heard = [w.strip(" .,?!").lower() for w in found.words]
        for word, start, end in said.words:
            if heard.count(word.lower()) == 1 and [w.lower() for w, _, _ in said.words].count(word.lower()) == 1:
                a, b = found.word_times[heard.index(word.lower())]
                errors += [abs(a / 16000 - start), abs(b / 16000 - end)]
    assert len(errors) > 60
    assert np.median(errors) < 0.12


def test_silence_and_noise_give_no_words(recogniser: Recogniser):
    noise = (np.random.default_rng(1).standard_normal(48000) * 300).astype(np.int16)
    found = recogniser.transcribe([np.zeros(32000, np.int16), noise])
    assert [h.text.strip() for h in found] == ["", ""]
