"""Words out of tokens, with the tokenizer of the checkpoint in the box."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from export.engine.vocabulary import Vocabulary, Word
from export.repository import NANO

TOKENIZER = Tokenizer.from_file(str(NANO / "tokenizer.json"))
GENERATION = json.loads((NANO / "generation_config.json").read_text())
VOCABULARY = Vocabulary(NANO / "tokenizer.json", GENERATION, multilingual=False)


def tokens(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def words(text: str, language: str = "en") -> list[str]:
    return [w.text for w in VOCABULARY.words(tokens(text), language)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" The train leaves at three.", [" The", " train", " leaves", " at", " three."]),
        (" Well, yes; no!", [" Well,", " yes;", " no!"]),
        (" It's O'Clock, isn't it?", [" It's", " O'Clock,", " isn't", " it?"]),
        (' He said "hello" twice.', [" He", " said", ' "hello"', " twice."]),
        (" (so what)", [" (so", " what)"]),
        (" twenty-one", [" twenty-one"]),
        (" 3.14 is 50% off", [" 3.14", " is", " 50%", " off"]),
        ("Hello", ["Hello"]),
        (" incomprehensibilities", [" incomprehensibilities"]),
    ],
)
def test_a_word_carries_its_space_and_the_punctuation_it_touches(text: str, expected: list[str]):
    assert words(text) == expected


@pytest.mark.parametrize("text", [" café naïve", " größer", " señor, ¿qué?", " Ωμέγα", " 😀 ok"])
def test_a_character_split_over_byte_tokens_comes_out_whole(text: str):
    ids = tokens(text)
    assert any("\ufffd" in VOCABULARY.text([t]) for t in ids), "this text tests nothing with this tokenizer"
    said = words(text)
    assert "".join(said).split() == text.split()
    assert not any("\ufffd" in w for w in said)


def test_a_text_cut_off_within_a_character_still_gives_its_words():
    ids = tokens(" good café")
    cut = next(ids[:n] for n in range(len(ids), 0, -1) if "\ufffd" in VOCABULARY.text(ids[:n]))
    said = VOCABULARY.words(cut)
    assert said[0].text == " good"
    assert said[-1].last == len(cut)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_languages_without_spaces_are_split_into_characters(language: str):
    assert words("東京、大阪。", language) == ["東", "京、", "大", "阪。"]


def test_nothing_gives_no_words():
    assert VOCABULARY.words([]) == []


@given(st.text("abc dE.,'!é-東", max_size=30))
def test_the_words_are_the_text_and_their_tokens_lie_in_order(text: str):
    ids = tokens(text)
    said = VOCABULARY.words(ids)
    assert "".join(w.text for w in said).replace(" ", "") == text.replace(" ", "")
    assert all(w.text.strip() for w in said)
    assert all(0 <= w.first < w.last <= len(ids) for w in said)
    assert all(a.last <= b.first for a, b in itertools.pairwise(said))


@given(st.lists(st.integers(0, VOCABULARY.eot - 1), max_size=20), st.sampled_from(["en", "ja"]))
def test_any_tokens_whatever_give_words_in_order(ids: list[int], language: str):
    said = VOCABULARY.words(ids, language)
    assert all(isinstance(w, Word) and w.text.strip() for w in said)
    assert all(a.last <= b.first for a, b in itertools.pairwise(said))


# --- prompts and suppression ------------------------------------------------------------------------------------------


def test_the_prompt_of_a_checkpoint_for_one_language_names_none():
    assert VOCABULARY.prompt("en") == VOCABULARY.prompt("de") == [VOCABULARY.sot, VOCABULARY.no_timestamps]
    with pytest.raises(ValueError, match="cannot translate"):
        VOCABULARY.prompt("en", "translate")


def test_the_prompt_of_a_multilingual_checkpoint_names_language_and_task():
    many = Vocabulary(NANO / "tokenizer.json", GENERATION, multilingual=True)
    english, transcribe = TOKENIZER.token_to_id("<|en|>"), TOKENIZER.token_to_id("<|transcribe|>")
    assert many.prompt("en") == [many.sot, english, transcribe, many.no_timestamps]
    with pytest.raises(ValueError, match="language 'xx' is not among en"):
        many.prompt("xx")


@pytest.mark.parametrize("generation", [{}, {"begin_suppress_tokens": tokens(" ")}])
def test_special_tokens_can_never_be_said_and_a_text_never_begins_with_a_blank(generation: dict[str, list[int]]):
    official = Vocabulary(NANO / "tokenizer.json", generation, multilingual=False)
    logits = np.zeros(official.size + 7, np.float32)
    later = official.suppress(logits.copy(), first=False)
    assert np.isneginf(later[official.eot + 1 :]).all()
    assert np.isfinite(later[: official.eot + 1]).all()
    first = official.suppress(logits.copy(), first=True)
    assert np.isneginf(first[tokens(" ")[0]])
    assert np.isfinite(first[official.eot]), "a text may be empty"


def test_a_text_may_be_empty_although_official_checkpoints_forbid_it():
    # Their begin_suppress_tokens hold the end of the text too, for windows that are known to hold speech.
    forbidding = {**GENERATION, "begin_suppress_tokens": [tokens(" ")[0], VOCABULARY.eot]}
    strict = Vocabulary(NANO / "tokenizer.json", forbidding, multilingual=False)
    first = strict.suppress(np.zeros(strict.size, np.float32), first=True)
    assert np.isfinite(first[strict.eot])


def test_special_tokens_are_no_text():
    ids = tokens(" hello")
    assert VOCABULARY.text([*ids, VOCABULARY.eot, VOCABULARY.sot]) == " hello"


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    from tokenizers import models

    other = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE()).save(str(other))
    with pytest.raises(ValueError, match="is it Whisper's"):
        Vocabulary(other, {}, multilingual=False)
