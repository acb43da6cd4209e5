"""What is known of a model before it decodes, and what is refused by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import UnknownLanguage, UnsupportedTask
from frontend.inference.models import ModelInfo

MANY = ModelInfo("large-v3", True, ("en", "de", "no", "he", "zh", "yue"), ("transcribe", "translate"))
ENGLISH = ModelInfo("base.en")


def test_the_parameters_of_an_export_describe_the_model():
    parameters = {
        "multilingual": "true", "languages": "en,de", "tasks": "transcribe,translate", "windows_s": "1,2.5,30",
        "precision": "int8", "source": "openai/whisper-tiny", "encoder": "whisper_tiny_encoder",
    }  # fmt: skip
    info = ModelInfo.from_parameters("tiny", parameters)
    tasks = ("transcribe", "translate")
    assert info == ModelInfo("tiny", True, ("en", "de"), tasks, (1, 2.5, 30), "int8", "openai/whisper-tiny")
    assert info.window_s == 30


def test_an_export_of_an_earlier_version_claims_nothing():
    info = ModelInfo.from_parameters("tiny", {"multilingual": "true", "windows_s": "30"})
    assert info.language("xx") == "xx"
    info.check_task("translate")
    assert ModelInfo.from_parameters("nano", {"multilingual": "false"}).languages == ("en",)
    assert ModelInfo.from_parameters("nano", {}).window_s == 30


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("de", "de"), ("de-AT", "de"), ("DE", "de"), ("zh_TW", "zh"), ("nb", "no"), ("nb-NO", "no"), ("iw", "he"),
        ("yue", "yue"), ("cmn", "zh"), ("auto", "auto"),
    ],
)  # fmt: skip
def test_a_language_tag_becomes_whispers_code(asked: str, code: str):
    assert MANY.language(asked) == code


def test_an_unknown_language_is_refused_by_a_list_of_the_known_ones():
    with pytest.raises(
        UnknownLanguage, match="model 'large-v3' does not know language 'xx'; it knows en, de, no, he, zh, yue"
    ):
        MANY.language("xx")


@pytest.mark.parametrize("asked", ["fr", "de-DE", "xx"])
def test_an_english_only_model_says_so(asked: str):
    with pytest.raises(UnknownLanguage, match=r"model 'base\.en' is English-only; leave language out"):
        ENGLISH.language(asked)


@pytest.mark.parametrize("asked", ["en", "en-GB", "EN", "auto"])
def test_english_and_auto_are_english_to_an_english_only_model(asked: str):
    assert ENGLISH.language(asked) == "en"


def test_a_model_for_another_single_language_says_which():
    with pytest.raises(UnknownLanguage, match="is for de only"):
        ModelInfo("german", languages=("de",)).language("en")


def test_translation_is_refused_by_a_model_that_cannot():
    MANY.check_task("translate")
    with pytest.raises(UnsupportedTask, match=r"model 'base\.en' cannot translate; it can transcribe"):
        ENGLISH.check_task("translate")


@given(st.text(max_size=12))
def test_any_tag_gives_a_code_of_the_model_or_a_clean_error(asked: str):
    try:
        assert MANY.language(asked) in (*MANY.languages, "auto")
    except UnknownLanguage as error:
        assert repr(asked) in str(error)  # noqa: PT017 - either may be
