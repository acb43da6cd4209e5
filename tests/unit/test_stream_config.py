"""Settings of a stream, from a query string or a `configure`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.format import ENCODINGS, AudioFormat
from frontend.errors import InvalidAudio, InvalidConfig
from frontend.protocols.config import StreamConfig, from_query, updated


def query(text: str) -> StreamConfig:
    return from_query(parse_qs(text, keep_blank_values=True))


def test_an_empty_query_gives_the_defaults_of_the_documentation():
    config = query("")
    assert config == StreamConfig()
    assert (config.encoding, config.sample_rate, config.channels) == ("linear16", 16_000, 1)
    assert (config.language, config.model) == ("en", None)
    assert (config.interim_results, config.vad_enabled, config.endpointing_ms) == (True, True, 500)
    assert config.custom_vocabulary == []


def test_a_query_sets_everything():
    config = query(
        "encoding=mulaw&sample_rate=8000&channels=2&language=pt-BR&model=base.en&interim_results=false"
        "&vad_enabled=0&endpointing_ms=1200&custom_vocabulary=Triton"
    )
    assert config.audio_format == AudioFormat("mulaw", 8_000, 2)
    assert (config.language, config.model) == ("pt-BR", "base.en")
    assert (config.interim_results, config.vad_enabled, config.endpointing_ms) == (False, False, 1_200)
    assert config.custom_vocabulary == ["Triton"]


@pytest.mark.parametrize(
    "text",
    [
        "custom_vocabulary=Triton,Silero%20VAD",
        "custom_vocabulary=Triton&custom_vocabulary=Silero+VAD",
        "custom_vocabulary=+Triton+,,Silero+VAD,",
    ],
)
def test_words_are_repeated_or_separated_by_commas(text: str):
    assert query(text).custom_vocabulary == ["Triton", "Silero VAD"]


def test_the_last_of_a_repeated_setting_counts():
    assert query("language=en&language=de").language == "de"


def test_a_query_may_carry_what_is_none_of_our_settings():
    assert query("api_key=secret&utm_source=x") == StreamConfig()


@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "on"])
def test_a_switch_is_on_by_any_usual_word(value: str):
    assert query(f"interim_results={value}").interim_results is True


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("interim_results", "maybe", "boolean"),
        ("vad_enabled", "", "boolean"),
        ("endpointing_ms", 9, "10"),
        ("endpointing_ms", 5_001, "5000"),
        ("endpointing_ms", "soon", "integer"),
        ("sample_rate", "16k", "integer"),
        ("channels", 1.5, "integer"),
        ("language", "english", "pattern"),
        ("model", "", "1 character"),
        ("custom_vocabulary", ["x" * 101], "100"),
        ("custom_vocabulary", ["a"] * 1_001, "1000"),
    ],
)
def test_a_wrong_value_is_answered_with_the_setting_and_what_it_takes(name: str, value: Any, takes: str):
    with pytest.raises(InvalidConfig) as error:
        updated(StreamConfig(), {name: value})
    assert str(error.value).startswith(name)
    assert takes in str(error.value)


def test_every_wrong_setting_is_named():
    with pytest.raises(InvalidConfig) as error:
        updated(StreamConfig(), {"endpointing_ms": 1, "interim_results": "maybe", "colour": "red"})
    assert all(name in str(error.value) for name in ("endpointing_ms", "interim_results", "'colour'"))


def test_an_unknown_setting_is_answered_with_those_there_are():
    with pytest.raises(InvalidConfig) as error:
        updated(StreamConfig(), {"langauge": "en"})
    assert all(name in str(error.value) for name in ("'langauge'", *StreamConfig.model_fields))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"encoding": "mp17"}, ENCODINGS),
        ({"sample_rate": 96_000}, ["96000", "48000"]),
        ({"channels": 0}, ["channels", "16"]),
    ],
)
def test_audio_that_is_not_supported_is_answered_with_what_is(changes: dict[str, Any], named: list[str]):
    with pytest.raises(InvalidAudio) as error:
        updated(StreamConfig(), changes)
    assert all(part in str(error.value) for part in named)


def test_only_a_vocabulary_that_was_given_is_said_to_have_no_effect():
    assert StreamConfig().not_in_effect() == []
    assert query("language=de&channels=2").not_in_effect() == []
    assert query("custom_vocabulary=Triton").not_in_effect() == ["custom_vocabulary"]


@given(
    st.dictionaries(
        st.sampled_from([*StreamConfig.model_fields, "api_key"]), st.lists(st.text(max_size=20), max_size=3), max_size=5
    )
)
def test_any_query_gives_settings_or_a_clear_error(pairs: dict[str, list[str]]):
    with suppress(InvalidConfig, InvalidAudio):
        assert from_query(pairs).audio_format
