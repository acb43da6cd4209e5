"""What Deepgram's parameters mean here, and which of them mean nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.format import AudioFormat
from frontend.errors import InvalidAudio, InvalidConfig, VoiceForgeError
from frontend.protocols.base import Callback
from frontend.protocols.deepgram.query import AUTO, LISTS, MULTI, NOT_YET, ONLY, TEXT, ListenQuery, understood

NAMES = sorted({*ListenQuery.model_fields, *NOT_YET, *TEXT, *LISTS})


RAW = {"encoding": ["linear16"], "sample_rate": ["16000"]}


def live(**pairs: str | list[str]):
    return understood(RAW | {k: v if isinstance(v, list) else [v] for k, v in pairs.items()}, "live")


def recorded(**pairs: str | list[str]):
    return understood({k: v if isinstance(v, list) else [v] for k, v in pairs.items()}, "recorded")


def test_nothing_asked_for_is_what_deepgram_does():
    listen = live()
    assert not listen.punctuated
    assert not listen.options.interim_results
    assert not listen.options.text.filler_words
    assert listen.options.language == "en"
    assert listen.not_in_effect == ()


@pytest.mark.parametrize(
    ("value", "ms", "told"), [("300", 300, 300), ("10", 100, 10), ("0", 100, 0), ("1", 100, 1), ("false", 500, False)]
)
def test_endpointing_is_a_number_or_false(value: str, ms: int, told: object):
    listen = live(endpointing=value)
    assert listen.options.endpointing_ms == ms
    assert listen.query.endpointing is told or (type(told) is int and listen.query.endpointing == told)


def test_endpointing_true_is_endpointing_not_given():
    assert live(endpointing="true") == live()


def test_a_sample_rate_is_required_with_an_encoding():
    with pytest.raises(InvalidConfig, match="sample_rate is required with encoding='linear16'"):
        understood({"encoding": ["linear16"]}, "live")
    assert recorded(encoding="linear16").options.audio == AudioFormat("auto")
    assert recorded(encoding="mulaw", sample_rate="8000").options.audio == AudioFormat("mulaw", 8000)


def test_without_an_encoding_it_is_a_container_with_channels_of_its_own():
    assert understood({}, "live").options.audio == AudioFormat("auto")
    assert understood({"sample_rate": ["8000"], "channels": ["2"]}, "live").options.audio == AudioFormat("auto", 8000)
    assert understood({"multichannel": ["true"]}, "live").options.n_channels == 1


@pytest.mark.parametrize("encoding", ["flac", "amr-nb", "amr-wb", "opus", "ogg-opus", "g729"])
def test_what_says_its_rate_itself_needs_none(encoding: str):
    assert understood({"encoding": [encoding]}, "live").options.audio == AudioFormat(encoding)


def test_an_unknown_encoding_is_refused():
    with pytest.raises(InvalidAudio, match="'mp17' is not supported"):
        live(encoding="mp17", sample_rate="16000")


@pytest.mark.parametrize("language", ["en-US", "en_GB", "EN"])
def test_regions_of_languages_are_left_off(language: str):
    assert live(language=language).options.language == "en"


def test_the_language_is_found_where_none_is_named():
    assert live(language="multi").options.language == MULTI
    assert recorded(detect_language="true").options.language == AUTO
    assert recorded(detect_language=["en", "de"]).options.language == AUTO
    assert live(detect_language="true").not_in_effect == ("detect_language",)


def test_what_does_nothing_is_named():
    assert set(live(diarize="true", keyterm=["a", "b"], version="latest", tier="false").not_in_effect) == {
        "diarize",
        "keyterm",
    }
    assert live(paragraphs="true").not_in_effect == ("paragraphs",)
    assert recorded(paragraphs="true").not_in_effect == ()
    assert recorded(vad_events="true").not_in_effect == ("vad_events",)
    assert live(smart_format="true", language="ja").not_in_effect == ("smart_format",)
    assert live(filler_words="false", language="ja").not_in_effect == ("filler_words",)


def test_unknown_keys_are_ignored():
    assert live(mip_opt_out="true", eager="1", min_confidence="7") == live()


def test_lists_are_repeated_keys_or_json_of_the_javascript_client():
    as_json = live(replace=json.dumps(["a:b", "c:d"]), tag=json.dumps(["x"]))
    assert as_json == live(replace=["a:b", "c:d"], tag=["x"])
    assert live(search="[not json").options.text.search == ("[not json",)


@pytest.mark.parametrize("name", ["search", "replace", "redact", "keyterm", "tag", "extra"])
def test_a_list_that_is_empty_is_as_good_as_none(name: str):
    listen = understood({name: ["[]"]}, "live")
    assert listen == understood({}, "live")


def test_extra_comes_back_by_key():
    assert live(extra=["a:b:c", "d"]).extra == {"a": "b:c", "d": ""}


def test_redaction_that_would_not_happen_is_refused():
    with pytest.raises(InvalidConfig, match="cannot be redacted"):
        live(redact="everything")


def test_a_callback_is_told_with_its_method():
    assert live(callback="https://a.example/x", callback_method="PUT").options.callback == Callback(
        "https://a.example/x", "PUT"
    )
    with pytest.raises(InvalidConfig, match="callback_method"):
        live(callback="https://a.example/x", callback_method="DELETE")


@pytest.mark.parametrize(
    ("name", "value"),
    [("endpointing", "soon"), ("channels", "two"), ("utterance_end_ms", "1"), ("language", "e"), ("punctuate", "maybe")],
)
def test_a_wrong_value_is_named(name: str, value: str):
    with pytest.raises(InvalidConfig, match=f"{name}='{value}'"):
        live(**{name: value})


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.text(max_size=20), max_size=3)), st.sampled_from(list(ONLY)))
def test_any_query_is_understood_or_clearly_refused(pairs: dict[str, list[str]], kind):
    error: VoiceForgeError | None = None
    try:
        listen = understood(pairs, kind)
    except VoiceForgeError as refused:
        error = refused
    if error:
        assert str(error).encode()
        return
    assert 100 <= listen.options.endpointing_ms <= 5000
