"""Hesitations, profanity, dictation, replacement, search, and sentences."""

from __future__ import annotations

import itertools

import pytest

from frontend.speech.events import Word
from frontend.text.paragraphs import paragraphs, sentences, utterances
from frontend.text.search import Hit, Searcher, sounded
from tests.unit.text_words import LENGTH, STEP, final, words, written

RATE = 16_000


@pytest.mark.parametrize(
    ("language", "spoken", "expected"),
    [
        ("en", "so uh I think um yes", "so I think yes"),
        ("en", "Um, so I think, um.", "So I think."),
        ("en", "Yes. Uh, no", "Yes. No"),
        ("en", "Um.", ""),
        # They answer a question; Deepgram keeps them.
        ("en", "uh-huh mhmm mm-mm nuh-uh", "uh-huh mhmm mm-mm nuh-uh"),
        ("es", "Eh, pues sí", "Pues sí"),
        ("fr", "euh, oui", "oui"),
        ("de", "ich ähm gehe", "ich gehe"),
        ("it", "ehm, sì", "sì"),
        ("ja", "um yes", "um yes"),
    ],
)
def test_hesitations(language: str, spoken: str, expected: str):
    assert written(spoken, language, filler_words=False) == expected
    assert written(spoken, language, filler_words=True) == spoken


@pytest.mark.parametrize(
    ("language", "spoken", "expected"),
    [
        ("en", "What the fuck!", "What the ****!"),
        ("en", "FUCKING motherfucker's shit’s", "******* ************'s ****’s"),
        ("en", "bull-shit", "*********"),
        ("es", "¡Mierda! vale", "¡******! vale"),
        ("fr", "putain, oui", "******, oui"),
        ("de", "Scheiße gesagt", "******* gesagt"),
        ("it", "che cazzo", "che *****"),
        ("ja", "fuck", "fuck"),
    ],
)
def test_profanity(language: str, spoken: str, expected: str):
    assert written(spoken, language, profanity_filter=True) == expected


def test_ordinary_words_are_not_profane():
    spoken = (
        "Scunthorpe Penistone Sussex assess class bass cockpit cocktail Dick Hancock shiitake analysis god damn hell bloody"
        " sex breast organ virgin womb gay weed screw drunk kill suck fat tit rapeseed therapist document peacock titles"
    )
    assert written(spoken, profanity_filter=True) == spoken


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        # Deepgram's example.
        (
            "Patient has a headache comma nausea comma and vomiting period They report it period",
            "Patient has a headache, nausea, and vomiting. They report it.",
        ),
        ("is it question mark yes exclamation mark", "is it? Yes!"),
        ("as follows colon new line first", "as follows:\nFirst"),
        ("done, period. new paragraph next", "done.\n\nNext"),
        ("one full stop two semicolon three exclamation point", "one. Two; three!"),
        ("comma yes", ", yes"),
        ("a new car and a question", "a new car and a question"),
        ("five comma six", "five, six"),
    ],
)
def test_dictation(spoken: str, expected: str):
    assert written(spoken, dictation=True) == expected


def test_dictated_marks_keep_numbers_apart():
    assert written("twenty comma five", dictation=True, numerals=True) == "20, 5"


def test_a_dictated_mark_lasts_with_the_word_before_it():
    out = final("hello question mark bye", dictation=True).words
    assert out == (Word("hello?", 0, 2 * STEP + LENGTH, 0.9), Word("Bye", 3 * STEP, 3 * STEP + LENGTH, 0.9))


def test_dictation_is_english():
    assert written("hola comma period", "es", dictation=True) == "hola comma period"


@pytest.mark.parametrize(
    ("rules", "spoken", "expected"),
    [
        ([("monika", "Monica")], "Monika, and MONIKA.", "Monica, and Monica."),
        ([("kpis", "Key Performance Indicators")], "the kpis.", "the Key Performance Indicators."),
        ([("monika jon", "Monica John")], "(monika jon) monika", "(Monica John) monika"),
        ([("big", "B"), ("big apple", "New York")], "big big apple", "B New York"),
        ([("it", "the monster"), ("It", "The monster")], "It and it and IT", "The monster and the monster and the monster"),
        ([("monika", "")], "Well. Monika, hello", "Well. Hello"),
        ([("you know", "")], "I like it, you know.", "I like it."),
        ([("art", "x")], "start art's art", "start art's x"),
        ([("a", "b"), ("b", "a")], "a b", "b a"),
        ([("new york", "NY")], "new, york", "NY"),
    ],
)
def test_replacement(rules: list[tuple[str, str]], spoken: str, expected: str):
    assert written(spoken, replace=tuple(rules)) == expected


def test_replaced_words_divide_the_time_of_what_they_replace():
    out = final("the kpis", replace=(("kpis", "key performance indicators"),)).words
    third = LENGTH // 3
    assert [(w.start, w.end) for w in out[1:]] == [
        (STEP, STEP + third),
        (STEP + third, STEP + LENGTH * 2 // 3),
        (STEP + LENGTH * 2 // 3, STEP + LENGTH),
    ]


def test_search_tells_where_and_how_sure():
    spoken = words("hello this is steve fuler from social episte mology, a nice steve")
    steve, topic, nothing = Searcher(["Steve Fuller", "epistemology", "warwick"])(spoken)
    assert steve.query == "Steve Fuller"
    assert steve.hits[0] == Hit(0.99, 3 * STEP, 4 * STEP + LENGTH, "steve fuler")
    assert topic.hits == (Hit(1.0, 7 * STEP, 8 * STEP + LENGTH, "episte mology,"),)
    assert nothing.hits == ()


def test_hits_are_sorted_and_do_not_overlap():
    hits = Searcher(["apple pie"])(words("apple pie aple pie apple pi"))[0].hits
    assert [h.confidence for h in hits] == sorted((h.confidence for h in hits), reverse=True)
    spans = sorted((h.start, h.end) for h in hits)
    assert len(hits) == 3
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_sound_counts_as_well_as_spelling():
    assert sounded("phonex") == sounded("foneks")
    assert Searcher(["katherine"])(words("catherine"))[0].hits[0].confidence == 0.99


def test_sentences_end_at_final_punctuation_but_not_at_abbreviations():
    spoken = words("Hello there. I met Dr. Smith of the U.S. Army, e.g. of J. Doe! Really? Yes…")
    assert [s.text for s in sentences(spoken)] == [
        "Hello there.",
        "I met Dr. Smith of the U.S. Army, e.g. of J. Doe!",
        "Really?",
        "Yes…",
    ]
    assert (sentences(spoken)[0].start, sentences(spoken)[0].end) == (0, STEP + LENGTH)


def test_without_punctuation_silence_ends_sentences():
    spoken = [*words("one two"), *words("three four", 2 * STEP + 3 * RATE)]
    assert [s.text for s in sentences(spoken)] == ["one two", "three four"]


def test_paragraphs_end_at_silence_at_a_dictated_one_and_at_their_size():
    spoken = [*words("Aa. Bb. Cc."), *words(["Dd.\n\n", "Ee."], 10 * RATE)]
    parts = paragraphs(spoken, most_sentences=2)
    assert [[s.text for s in p.sentences] for p in parts] == [["Aa.", "Bb."], ["Cc."], ["Dd.\n\n"], ["Ee."]]
    assert (parts[0].num_words, parts[0].start, parts[0].end) == (2, 0, STEP + LENGTH)
    assert [p.num_words for p in paragraphs(words("a b. c d. e f."), most_words=4)] == [4, 2]


def test_utterances_are_split_at_silence():
    spoken = [*words("a b"), *words("c", STEP + LENGTH + round(0.8 * RATE)), *words("d", 4 * RATE)]
    assert [[w.text for w in u] for u in utterances(spoken)] == [["a", "b"], ["c"], ["d"]]
    assert utterances([]) == sentences([]) == paragraphs([]) == []
