"""Options from a query string and from JSON."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import InvalidConfig
from frontend.text.options import DEEPGRAM, NAMES, TextOptions, from_query, not_in_effect, updated


def test_a_query_over_deepgrams_defaults():
    pairs = {
        "model": ["nova-3"],
        "smart_format": ["true"],
        "filler_words": ["TRUE"],
        "redact": ["pci", "ssn,true"],
        "replace": ["monika:Monica", "big apple: New York ", "um"],
        "search": ["epistemology", "steve  fuller", "epistemology"],
        "min_confidence": ["0.4"],
        "low_confidence": ["drop"],
    }
    assert from_query(pairs, DEEPGRAM) == TextOptions(
        punctuate=False,
        smart_format=True,
        filler_words=True,
        redact=frozenset({"pci", "ssn", "numbers"}),
        replace=(("monika", "Monica"), ("big apple", "New York"), ("um", "")),
        search=("epistemology", "steve fuller"),
        min_confidence=0.4,
        low_confidence="drop",
    )
    assert from_query({}, DEEPGRAM) == DEEPGRAM


def test_json_takes_typed_values():
    changes: dict[str, Any] = {
        "punctuate": False,
        "redact": ["email_address", "phone_number"],
        "replace": [["a:b", "c"], "d:e"],
        "search": "x",
        "min_confidence": None,
    }
    assert updated(TextOptions(), changes) == TextOptions(
        punctuate=False, redact=frozenset({"email", "phone"}), replace=(("a:b", "c"), ("d", "e")), search=("x",)
    )


@pytest.mark.parametrize("value", ["false", ["false"], "", []])
def test_no_redaction(value: object):
    assert updated(TextOptions(redact=frozenset({"pci"})), {"redact": value}).redact == frozenset()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smart": True}, "there is no text option 'smart'; there is punctuate, numerals"),
        ({"numerals": "maybe"}, "numerals='maybe' is neither true nor false"),
        ({"redact": "pii"}, "redact='pii' cannot be redacted; there is numbers, aggressive_numbers, pci, ssn, phone, email"),
        ({"replace": ":x"}, "has nothing to find; write find:replacement"),
        ({"replace": "?!:x"}, "has nothing to find; write find:replacement"),
        ({"replace": ["a:b"] * 201}, "201 rules; up to 200"),
        ({"search": [str(i) for i in range(51)]}, "51 phrases; up to 50"),
        ({"search": "x" * 201}, "up to 200 characters"),
        ({"search": 3}, "a phrase is a text"),
        ({"search": "..."}, "has no letter or digit"),
        ({"min_confidence": "1.5"}, "is not a number from 0 to 1"),
        ({"min_confidence": "nan"}, "is not a number from 0 to 1"),
        ({"min_confidence": True}, "is not a number from 0 to 1"),
        ({"low_confidence": "hide"}, "low_confidence='hide'; there is mark, drop"),
    ],
)
def test_bad_values_are_told_with_what_is_known(changes: dict[str, Any], message: str):
    with pytest.raises(InvalidConfig, match=re.escape(message)):
        updated(TextOptions(), changes)


json = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.lists(st.none() | st.text(max_size=5), max_size=3)


@given(st.dictionaries(st.sampled_from(NAMES), json, max_size=3))
def test_any_json_gives_options_or_a_clear_error(changes: dict[str, Any]):
    try:
        result = updated(TextOptions(), changes)
    except InvalidConfig:
        return
    assert all(getattr(result, name) == getattr(TextOptions(), name) for name in NAMES if name not in changes)


def test_what_a_language_lacks_is_told():
    everything = TextOptions(numerals=True, smart_format=True, dictation=True, profanity_filter=True, filler_words=False)
    assert not_in_effect(everything, "en-US") == []
    assert not_in_effect(everything, "es") == ["smart_format", "dictation"]
    assert not_in_effect(everything, "ja") == ["numerals", "smart_format", "dictation", "profanity_filter", "filler_words"]
    assert not_in_effect(TextOptions(), "ja") == []
