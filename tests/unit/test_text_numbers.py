"""Spoken numbers to digits."""

from __future__ import annotations

import pytest

from frontend.text.numbers import numerals
from tests.unit.text_words import LENGTH, STEP, words, written

ENGLISH = [
    ("nine hundred", "900"),
    ("nine hundredth", "900th"),
    ("twenty first", "21st"),
    ("twenty-first", "21st"),
    ("three point five", "3.5"),
    ("three point one four one five", "3.1415"),
    ("one hundred and five", "105"),
    ("a hundred dogs", "100 dogs"),
    ("nine hundred ninety nine thousand nine hundred ninety nine", "999999"),
    # Deepgram's examples keep digits said one by one apart.
    ("My account number is nine two eight four seven three", "My account number is 9 2 8 4 7 3"),
    ("new york one zero zero zero five", "new york 1 0 0 0 5"),
    ("and then twenty three", "and then 23"),
    ("nineteen eighty four", "1984"),
    ("nineteen oh five", "1905"),
    ("twenty twenty two", "2022"),
    ("nineteen, eighty four", "19, 84"),
    ("two thousand and five", "2005"),
    ("twenty, five", "20, 5"),
    ("I have two dogs.", "I have 2 dogs."),
    ('"Nine hundred!" he said', '"900!" he said'),
    ("FIVE Hundred", "500"),
    # What is no number, or reads better as it is.
    ("no one knows the first one", "no one knows the first one"),
    ("one one one", "1 1 1"),
    ("wait one second", "wait one second"),
    ("two thirds of it", "2 thirds of it"),
    ("millions of hundreds", "millions of hundreds"),
    ("21 million and 3.5 billion", "21 million and 3.5 billion"),
    ("three point five million", "3.5 million"),
    ("Oh, five people came", "Oh, 5 people came"),
    ("oh no", "oh no"),
    ("", ""),
]

OTHERS = [
    ("es", "novecientos perros", "900 perros"),
    ("es", "treinta y cinco", "35"),
    ("es", "tres coma cinco", "3,5"),
    ("es", "mil novecientos ochenta y cuatro", "1984"),
    ("es", "cuatro uno cinco", "4 1 5"),
    ("es", "un perro y una casa", "un perro y una casa"),
    ("es", "vigésimo primero", "21º"),
    ("fr", "neuf cents", "900"),
    ("fr", "vingt et un", "21"),
    ("fr", "quatre-vingt-dix-sept", "97"),
    ("fr", "quatre vingt dix sept", "97"),
    ("fr", "trois virgule cinq", "3,5"),
    ("fr", "vingt et unième", "21ème"),
    ("fr", "un chien neuf", "un chien neuf"),
    ("fr", "3,5 millions", "3,5 millions"),
    ("de", "neunhundert", "900"),
    ("de", "einundzwanzig Hunde", "21 Hunde"),
    ("de", "drei Komma fünf", "3,5"),
    ("de", "neunzehnhundertvierundachtzig", "1984"),
    ("de", "ein Hund gibt acht", "ein Hund gibt acht"),
    ("de", "der zweiundzwanzigste Januar", "der 22. Januar"),
    ("it", "novecento", "900"),
    ("it", "ventuno", "21"),
    ("it", "venti tre mila", "23000"),
    ("it", "tre virgola cinque", "3,5"),
    ("it", "tu sei un amico", "tu sei un amico"),
    ("it", "cinque sei sette", "5 6 7"),
    ("pt", "vinte e quatro", "24"),
    ("nl", "eenentwintig", "21"),
    ("da", "enogtyve", "21"),
]


@pytest.mark.parametrize(("spoken", "expected"), ENGLISH)
def test_english(spoken: str, expected: str):
    assert written(spoken, numerals=True) == expected


@pytest.mark.parametrize(("language", "spoken", "expected"), OTHERS)
def test_other_languages(language: str, spoken: str, expected: str):
    assert written(spoken, language, numerals=True) == expected


def test_a_region_of_a_language_counts_as_the_language():
    assert written("nine hundred", "en-GB", numerals=True) == "900"


def test_a_language_without_numbers_leaves_words_alone():
    assert written("девять сот", "ru", numerals=True) == "девять сот"


def test_a_number_lasts_from_its_first_to_its_last_word_and_is_as_sure_as_its_least_sure():
    spoken = [*words("about nine"), *words("hundred", 2 * STEP, 0.4), *words("dogs", 3 * STEP)]
    about, number, dogs = numerals(spoken, "en")
    assert (number.text, number.start, number.end, number.confidence) == ("900", STEP, 2 * STEP + LENGTH, 0.4)
    assert (about, dogs) == (spoken[0], spoken[3])
