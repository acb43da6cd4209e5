"""Readable forms of dates, times, money, phone numbers and addresses."""

from __future__ import annotations

import pytest

from frontend.speech.events import Word
from tests.unit.text_words import STEP, final, written

EXAMPLES = [
    # Deepgram's example, less street and tracking numbers with letters.
    (
        "I'm here at eight thirty seven pm on Wednesday, it's November second twenty twenty two. I ate thirty three",
        "I'm here at 8:37 PM on Wednesday, it's November 2 2022. I ate 33",
    ),
    ("one two three southeast main street", "123 southeast main street"),
    ("three hundred Main Street", "300 Main Street"),
    # times
    ("at five pm", "at 5 PM"),
    ("at one p m", "at 1 PM"),
    ("five oh five am", "5:05 AM"),
    ("twelve thirty five a m.", "12:35 AM."),
    ("at eight thirty seven p.m. sharp", "at 8 37 p.m. sharp"),
    ("I am here", "I am here"),
    # dates
    ("July twelfth, nineteen seventy six", "July 12, 1976"),
    ("June first", "June 1"),
    ("May second", "May 2"),
    ("the first of June", "the first of June"),
    ("you may second that", "you may second that"),
    # money
    ("five dollars", "$5"),
    ("one dollar", "$1"),
    ("five dollars and twenty cents", "$5.20"),
    ("five dollars five cents", "$5.05"),
    ("three point five dollars", "$3.50"),
    ("twenty thousand five hundred euros", "€20,500"),
    ("one hundred million dollars", "$100,000,000"),
    ("three point five million dollars", "$3.5 million"),
    ("ten pounds", "10 pounds"),
    ("fifth dollar", "5th dollar"),
    # per cent
    ("twenty percent", "20%"),
    ("one per cent.", "1%."),
    # phone numbers and digits
    ("call five five five two one two four three nine four.", "call 555-212-4394."),
    ("call 555 212 4394", "call 555-212-4394"),
    ("call one five five five two one two four three nine four", "call 1-555-212-4394"),
    ("dial nine one one", "dial 911"),
    ("four two", "4 2"),
    ("one, two, three", "1, 2, 3"),
    # e-mail
    ("email john dot smith at example dot com please", "email john.smith@example.com please"),
    ("it is j o h n five at gmail dot com.", "it is john5@gmail.com."),
    ("jane underscore doe at mail dot example dot org", "jane_doe@mail.example.org"),
    ("my email is jane at example.com", "my email is jane@example.com"),
    ("meet me at example dot com", "meet me at example.com"),
    ("jane works at example dot com", "jane works at example.com"),
    # web
    ("w w w dot example dot com slash docs", "www.example.com/docs"),
    ("https colon slash slash example dot org", "https://example.org"),
    ("the dot com boom", "the dot com boom"),
    ("connect the dot at home", "connect the dot at home"),
]


@pytest.mark.parametrize(("spoken", "expected"), EXAMPLES)
def test_english(spoken: str, expected: str):
    assert written(spoken, smart_format=True) == expected


def test_other_languages_get_numerals():
    assert written("novecientos dólares", "es", smart_format=True) == "900 dólares"


def test_a_pattern_is_one_word_with_the_times_of_all():
    text = final("about five dollars and twenty cents, thanks", smart_format=True)
    assert text.words[1] == Word("$5.20,", STEP, 5 * STEP + 8_000, 0.9)
    assert [w.text for w in text.words] == ["about", "$5.20,", "thanks"]


def test_punctuation_is_implied():
    assert written("Well, nine hundred.", smart_format=True, punctuate=False) == "Well, 900."
