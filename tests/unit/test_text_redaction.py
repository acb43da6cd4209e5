"""Redaction: what it finds, and that partials, pauses and other options leak nothing of it."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import InvalidConfig
from frontend.speech.events import Word
from frontend.text.digits import luhn
from frontend.text.options import TextOptions
from frontend.text.pipeline import TextPipeline
from frontend.text.words import transcript
from tests.unit.text_words import LENGTH, STEP, words, written

CARD = "four one one one one one one one one one one one one one one one"

FINALS = [
    ("pci", f"my card is {CARD}, ok", "my card is [CREDIT_CARD_1], ok"),
    ("pci", "4111 1111 1111 1111 or 4111-1111-1111-1111.", "[CREDIT_CARD_1] or [CREDIT_CARD_2]."),
    ("pci", "it is forty one eleven um eleven eleven dash eleven eleven double one eleven ok", "it is [CREDIT_CARD_1] ok"),
    ("pci", "4111 1111 1111 1112 is not right", "[REDACTED] is not right"),
    ("pci", "cut short: 4111 1111 1111 11 too", "cut short: [REDACTED] too"),
    ("pci", "the cvv code is one one one thanks", "the cvv code is [CVV_1] thanks"),
    ("pci", "expiration date of one twenty three and", "expiration date of [CREDIT_CARD_EXPIRATION_1] and"),
    ("pci", "in 1984 I had 100 dogs", "in 1984 I had 100 dogs"),
    ("pci", "the phone is 555 212 4394 there", "the phone is 555 212 4394 there"),
    # Deepgram's example.
    (
        "ssn",
        "My social security is five five five two two one one one one and hers six six six two two one three three three",
        "My social security is [SSN_1] and hers [SSN_2]",
    ),
    ("ssn", "555-22-1111 is it", "[SSN_1] is it"),
    ("ssn", "the last four of your social are 1111 right", "the last four of your social are [SSN_1] right"),
    ("ssn", "five five five and two two and one one one one here", "[SSN_1] here"),
    ("phone", "call 555-212-4394 now", "call [PHONE_NUMBER_1] now"),
    ("phone", "call +44 20 7946 0958 now", "call [PHONE_NUMBER_1] now"),
    ("phone", "from 1999 to 2004 in room 12", "from 1999 to 2004 in room 12"),
    ("numbers", "12 dogs, 300 cats and nineteen eighty four", "12 dogs, [REDACTED] cats and [REDACTED]"),
    ("numbers", f"{CARD} or 555221111 or 5552124394", "[CREDIT_CARD_1] or [SSN_1] or [PHONE_NUMBER_1]"),
    ("aggressive_numbers", "the first of 12 dogs and one cat", "the first of [REDACTED] dogs and [REDACTED] cat"),
    ("aggressive_numbers", "the twenty first", "the [REDACTED]"),
    ("email", "write to john dot smith at example dot com.", "write to [EMAIL_ADDRESS_1]."),
    ("email", "bob@x.org, or j o e five at gmail now", "[EMAIL_ADDRESS_1], or [EMAIL_ADDRESS_2] now"),
    ("email", "bob @ example.com or bob@ example dot com", "[EMAIL_ADDRESS_1] or [EMAIL_ADDRESS_2]"),
    ("email", "meet me at home", "meet me at home"),
]


@pytest.mark.parametrize(("kind", "spoken", "expected"), FINALS)
def test_finals(kind: str, spoken: str, expected: str):
    assert written(spoken, redact=frozenset({kind})) == expected


@pytest.mark.parametrize(
    ("language", "spoken"),
    [
        ("es", "mi tarjeta es cuatro uno uno uno uno uno uno uno uno uno uno uno uno uno uno uno gracias"),
        ("fr", "ma carte est quatre un un un un un un un un un un un un un un un merci"),
        ("de", "meine karte ist vier eins eins eins eins eins eins eins eins eins eins eins eins eins eins eins danke"),
        ("it", "la carta è quattro uno uno uno uno uno uno uno uno uno uno uno uno uno uno uno grazie"),
    ],
)
def test_numbers_in_other_languages(language: str, spoken: str):
    said = spoken.split()
    assert written(spoken, language, redact=frozenset({"pci"})) == f"{' '.join(said[:3])} [CREDIT_CARD_1] {said[-1]}"


def test_a_language_without_spoken_numbers_is_refused():
    with pytest.raises(InvalidConfig, match="only in en, es"):
        TextPipeline(TextOptions(redact=frozenset({"pci"})), "ja")


def test_a_placeholder_lasts_from_first_to_last_word():
    out = TextPipeline(TextOptions(redact=frozenset({"ssn"})), "en").final(words("it is 555 22 1111 ok")).words
    assert out[2] == Word("[SSN_1]", 2 * STEP, 4 * STEP + LENGTH, 0.9)


def test_a_number_beside_an_address_is_not_shown():
    wanted = TextOptions(redact=frozenset({"pci", "email"}))
    out = TextPipeline(wanted, "en").final(words("it is 4111 1111 um 1111 1111 at gmail ok")).words
    assert transcript(out) == "it is [EMAIL_ADDRESS_1] ok"


def test_entities_are_counted_over_the_stream():
    pipeline = TextPipeline(TextOptions(redact=frozenset({"ssn"})), "en")
    shown = [transcript(pipeline.final(words("555-22-1111 ok")).words) for _ in range(2)]
    assert shown == ["[SSN_1] ok", "[SSN_2] ok"]


def test_a_partial_counts_nothing():
    pipeline = TextPipeline(TextOptions(redact=frozenset({"ssn"})), "en")
    spoken = words("555-22-1111 ok then")
    shown = [transcript(pipeline.partial(spoken, n).words) for n in (0, 1, 3)] + [transcript(pipeline.final(spoken).words)]
    assert shown == ["[REDACTED] ok then", "[REDACTED] ok then", "[SSN_1] ok then", "[SSN_1] ok then"]


def test_with_email_a_partial_shows_only_what_is_settled():
    pipeline = TextPipeline(TextOptions(redact=frozenset({"email"})), "en")
    spoken = words("I am john dot smith at example dot com ok thanks")
    shown = [transcript(pipeline.partial(spoken, n).words) for n in range(len(spoken) + 1)]
    assert shown[2:11] == ["I", "I am", "I am", "I am", "I am", "I am", "I am", "I am", "I am [EMAIL_ADDRESS_1]"]


def test_a_number_that_a_pause_cuts_in_two_is_found_in_both_segments():
    pipeline = TextPipeline(TextOptions(redact=frozenset({"pci"})), "en")
    first = pipeline.final(words("my card is 4111 1111", 0))
    second = pipeline.final(words("1111 1111 and I am 33", 20 * STEP))
    assert [transcript(t.words) for t in (first, second)] == ["my card is [REDACTED]", "[REDACTED] and I am 33"]


def test_an_oh_after_a_pause_is_a_zero_of_the_number_before():
    pipeline = TextPipeline(TextOptions(redact=frozenset({"pci"})), "en")
    pipeline.final(words("it is three zero zero"))
    assert transcript(pipeline.partial(words("oh", 6 * STEP), 0).words) == "[REDACTED]"
    assert transcript(pipeline.final(words("oh", 6 * STEP)).words) == "[REDACTED]"


def test_figures_between_spelled_numbers_count_too():
    assert written("it is thirty 0 one", redact=frozenset({"pci"})) == "it is [REDACTED]"


def test_a_long_pause_or_other_words_end_a_number():
    for between, at in (("", 60 * STEP), ("thank you", 8 * STEP)):
        pipeline = TextPipeline(TextOptions(redact=frozenset({"pci"})), "en")
        pipeline.final(words("my card is 4111 1111 1111", 0))
        if between:
            pipeline.final(words(between, 6 * STEP))
        assert transcript(pipeline.final(words("1111 cats here", at)).words) == "1111 cats here"


def test_a_code_announced_in_the_segment_before():
    pipeline = TextPipeline(TextOptions(redact=frozenset({"pci"})), "en")
    pipeline.final(words("and the security code is"))
    assert transcript(pipeline.final(words("one two three thanks", 9 * STEP)).words) == "[CVV_1] thanks"


ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
BEFORE = ["my", "card", "number", "is", "well,", "please", "take"]
AFTER = ["thanks", "ok.", "bye", "please"]
WITHIN = ["um", "dash", "and", "uh,"]


def card(r: random.Random) -> str:
    body = r.choice("3456") + "".join(r.choice("0123456789") for _ in range(r.choice([13, 14])))
    return next(body + d for d in "0123456789" if luhn(body + d))


def pair(digits: str) -> str:
    """Two digits as one number, where people say it so."""
    if digits[0] == "0":
        return f"{'oh' if digits[1] != '0' else 'zero'} {ONES[int(digits[1])]}"
    if digits[0] == "1":
        return TEENS.split()[int(digits[1])]
    return TENS.split()[int(digits[0]) - 1] + (f" {ONES[int(digits[1])]}" if digits[1] != "0" else "")


@st.composite
def readings(draw: st.DrawFn) -> tuple[list[str], set[int]]:
    """A sentence with a card number read out in some way, and which of its words are of the number."""
    r = draw(st.randoms(use_true_random=False))
    number = card(r)
    said: list[str] = []
    at = 0
    while at < len(number):
        style = draw(st.sampled_from(["one", "written", "group", "pair"]))
        size = {"one": 1, "written": 1, "group": 4, "pair": 2}[style]
        piece = number[at : at + size]
        odd = len(piece) < size
        said.append(ONES[int(piece)] if style == "one" else pair(piece) if style == "pair" and not odd else piece)
        at += size
        if at < len(number) and draw(st.integers(0, 9)) == 0:
            said.append(draw(st.sampled_from(WITHIN)))
    before = draw(st.lists(st.sampled_from(BEFORE), max_size=4))
    after = draw(st.lists(st.sampled_from(AFTER), max_size=3))
    heard = [w for piece in [*before, *said, *after] for w in piece.split()]
    length = len(" ".join(said).split())
    digits = {i for i in range(len(before), len(before) + length) if heard[i] not in WITHIN}
    return heard, digits


@given(readings(), st.data(), st.booleans())
def test_no_partial_shows_a_digit_of_a_card(reading: tuple[list[str], set[int]], data: st.DataObject, numerals: bool):
    heard, secret = reading
    spoken = words(heard)
    wanted = TextOptions(
        redact=frozenset({data.draw(st.sampled_from(["pci", "numbers"]))}), numerals=numerals, smart_format=numerals
    )
    pipeline = TextPipeline(wanted, "en")
    stable = 0
    hidden = {spoken[i].start: spoken[i].text for i in secret}
    for end in range(1, len(spoken) + 1):
        stable = data.draw(st.integers(stable, end))
        results = [pipeline.partial(spoken[:end], stable)]
        if end == len(spoken):
            results.append(pipeline.final(spoken))
        for w in (w for result in results for w in result.words):
            covered = [text for start, text in hidden.items() if w.start <= start < w.end]
            assert not covered or w.text.startswith("["), (w, transcript(results[-1].words))


def length(heard: list[str], i: int) -> int:
    """Digits that a word says: of "twenty one" each says one."""
    if heard[i].isdigit():
        return len(heard[i])
    alone = heard[i + 1 : i + 2] == [] or heard[i + 1] not in ONES[1:]
    return 2 if heard[i] in TEENS.split() or (heard[i] in TENS.split() and alone) else 1


@given(readings(), st.data())
def test_segments_of_a_card_show_less_than_four_digits(reading: tuple[list[str], set[int]], data: st.DataObject):
    heard, secret = reading
    spoken = words(heard)
    pipeline = TextPipeline(TextOptions(redact=frozenset({"pci"})), "en")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(spoken)), max_size=4)) | {0, len(spoken)})
    shown: list[Word] = []
    for a, b in itertools.pairwise(cuts):
        shown += pipeline.final(spoken[a:b]).words
    leaked = [i for i in sorted(secret) if spoken[i] in shown]
    assert sum(length(heard, i) for i in leaked) < 4, (leaked, transcript(shown))


def test_alternatives_of_what_is_redacted_go_too():
    @dataclasses.dataclass(frozen=True)
    class Alternative(Word):
        alternatives: tuple[str, ...] = ()

    spoken = [Alternative("555-22-1111", 0, 9, 0.9, ("555-22-1112",))]
    for result in (
        (pipeline := TextPipeline(TextOptions(redact=frozenset({"ssn"})), "en")).partial(spoken, 0),
        pipeline.final(spoken),
    ):
        assert [getattr(w, "alternatives", None) for w in result.words] == [()]
