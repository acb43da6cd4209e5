"""What holds for every combination of text options."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from frontend.speech.events import Word
from frontend.text.numbers import LANGUAGES
from frontend.text.options import DEEPGRAM, TextOptions
from frontend.text.pipeline import TextPipeline
from frontend.text.words import bare, split, transcript
from tests.unit.text_words import final, options, texts, words, written

KEEPING = TextOptions(
    numerals=True, smart_format=True, dictation=True, profanity_filter=True, redact=frozenset({"pci", "email"})
)
"""Options none of which drops a word."""


@given(st.lists(st.text(max_size=5), max_size=6), options(), st.sampled_from(LANGUAGES), st.integers(0, 6))
def test_no_text_is_too_strange(heard: list[str], wanted: TextOptions, language: str, stable: int):
    pipeline = TextPipeline(wanted, language)
    pipeline.partial(words(heard), stable)
    pipeline.final(words(heard))


@given(texts(), options())
def test_times_stay_in_order_and_within_the_segment(heard: list[str], wanted: TextOptions):
    spoken = words(heard, 1000)
    for result in (TextPipeline(wanted, "en").final(spoken), TextPipeline(wanted, "en").partial(spoken, len(spoken) // 2)):
        times = [t for w in result.words for t in (w.start, w.end)]
        assert times == sorted(times)
        assert not times or (times[0] >= spoken[0].start and times[-1] <= spoken[-1].end)
        assert all(any(h.confidence == w.confidence for h in spoken) for w in result.words)


@given(texts())
def test_what_drops_nothing_covers_every_word(heard: list[str]):
    spoken = words(heard)
    out = TextPipeline(KEEPING, "en").final(spoken).words
    assert all(any(o.start <= w.start and w.end <= o.end for o in out) for w in spoken)


@given(texts(18), options(), st.data())
@example([w.text for w in words("my card is 4111 one thousand and five dollars and twenty cents")], KEEPING, None)
@example([w.text for w in words("john dot smith at example dot com period new line")], KEEPING, None)
def test_the_stable_words_of_a_partial_never_change(heard: list[str], wanted: TextOptions, data: st.DataObject | None):
    pipeline, spoken = TextPipeline(wanted, "en"), words(heard)
    ends = range(len(spoken) + 1)
    before: tuple[Word, ...] = ()
    firm = 0
    for end in ends:
        firm = data.draw(st.integers(firm, end)) if data else end
        # Words beyond the stable ones may be anything in a partial.
        partial = pipeline.partial([*spoken[:firm], *words("wrong one 41"[: end - firm], 10**6)], firm)
        assert partial.words[: len(before)] == before
        before = partial.words[: partial.stable]
    assert pipeline.final(spoken).words[: len(before)] == before


def test_stable_words_come_out_as_soon_as_nothing_can_join_them():
    pipeline = TextPipeline(TextOptions(smart_format=True), "en")
    spoken = words("I ate twenty five dollars worth of pasta")
    shown = [pipeline.partial(spoken[:n], n) for n in range(1, len(spoken) + 1)]
    assert [transcript(p.words[: p.stable]) for p in shown] == [
        "",
        "I",
        "I ate",
        "I ate",
        "I ate",
        "I ate $25",
        "I ate $25 worth",
        "I ate $25 worth of",
    ]
    assert transcript(shown[3].words) == "I ate twenty five"


def test_a_word_is_not_settled_while_a_dropped_one_may_hand_it_a_full_stop():
    pipeline, spoken = TextPipeline(TextOptions(filler_words=False), "en"), words("I think um.")
    partial = pipeline.partial(spoken, 2)
    assert (transcript(partial.words), partial.stable) == ("I think.", 1)
    assert transcript(pipeline.final(spoken).words) == "I think."


def test_the_unstable_tail_is_not_merged_but_masked():
    wanted = TextOptions(numerals=True, profanity_filter=True, redact=frozenset({"pci"}))
    pipeline = TextPipeline(wanted, "en")
    partial = pipeline.partial(words("ate nine hundred shit nine hundred"), 2)
    assert transcript(partial.words) == "ate [REDACTED] **** [REDACTED]"
    assert partial.stable == 1


@given(texts())
def test_steps_on_single_words_are_prefix_monotone(heard: list[str]):
    pipeline = TextPipeline(
        TextOptions(punctuate=False, profanity_filter=True, min_confidence=0.5, low_confidence="drop"), "en"
    )
    spoken = words(heard)
    assert all(step.prefix_monotone for step in pipeline.steps)
    whole = pipeline.final(spoken).words
    for n in range(len(spoken)):
        part = pipeline.final(spoken[:n]).words
        assert whole[: len(part)] == part


def test_nothing_asked_for_is_nothing_done():
    spoken = words("Hello, fuck nine hundred um.")
    pipeline = TextPipeline(TextOptions(), "en")
    assert pipeline.steps == []
    assert pipeline.final(spoken).words is spoken


def test_deepgrams_defaults_strip_punctuation_and_hesitations():
    out = TextPipeline(DEEPGRAM, "en-US").final(words("Um, Hello, World-Wide NATO's!")).words
    assert transcript(out) == "hello world-wide nato's"


@given(st.text())
def test_bare_twice_is_bare_once(text: str):
    assert bare(bare(text)) == bare(text)
    assert "".join(split(text)) == text


@given(texts(), st.sampled_from(["punctuate", "filler_words", "profanity_filter"]))
def test_steps_that_are_idempotent(heard: list[str], name: str):
    wanted = TextOptions(**{name: name == "profanity_filter"})
    once = TextPipeline(wanted, "en").final(words(heard)).words
    assert TextPipeline(wanted, "en").final(once).words == once


def test_bare_keeps_what_belongs_to_the_word():
    given_ = [
        "“Hello,”",
        "-5",
        ".5",
        "$5.20.",
        "8:37",
        "jane@x.org,",
        "[SSN_1].",
        "****",
        "21st",
        "don’t",
        "20%",
        "C++",
        "—",
    ]
    assert [bare(t) for t in given_] == (
        ["hello", "-5", ".5", "$5.20", "8:37", "jane@x.org", "[SSN_1]", "****", "21st", "don’t", "20%", "c++", ""]
    )


@dataclass(frozen=True)
class Alternative(Word):
    alternatives: tuple[str, ...] = ()
    speaker: int = 0


def test_fields_of_later_days_survive_except_alternatives_of_what_was_changed():
    spoken = [Alternative(t, i, i + 1, 0.9, ("x",), 7) for i, t in enumerate(["nine", "hundred", "shit", "dogs"])]
    out = TextPipeline(TextOptions(numerals=True, profanity_filter=True), "en").final(spoken).words
    assert [(w.text, w.alternatives, w.speaker) for w in out if isinstance(w, Alternative)] == [
        ("900", (), 7),
        ("****", (), 7),
        ("dogs", ("x",), 7),
    ]


def test_low_confidence_is_marked_or_dropped_as_whole_numbers():
    spoken = [*words("about twenty"), *words("five", 20_000, 0.3), *words("dogs", 30_000)]
    marked = TextPipeline(TextOptions(numerals=True, min_confidence=0.5), "en").final(spoken)
    assert (transcript(marked.words), marked.low) == ("about 25 dogs", (1,))
    dropped = TextPipeline(TextOptions(numerals=True, min_confidence=0.5, low_confidence="drop"), "en").final(spoken)
    assert (transcript(dropped.words), dropped.low) == ("about dogs", ())


def test_the_order_of_steps():
    everything = TextOptions(False, True, False, True, False, True, frozenset(), (("a", "b"),), (), 0.5, "drop")
    names = [step.name for step in TextPipeline(everything, "en").steps]
    assert names == ["filler_words", "replace", "profanity_filter", "dictation", "numerals", "min_confidence"]
    plain = TextOptions(punctuate=False, smart_format=False, numerals=True)
    assert [step.name for step in TextPipeline(plain, "en").steps] == ["numerals", "punctuate"]


def test_replacement_corrects_before_numbers_are_read():
    assert written("for hundred", replace=(("for hundred", "four hundred"),), numerals=True) == "400"


def test_search_sees_only_what_may_be_shown():
    text = final(
        "my ssn is 555 22 1111 shit", redact=frozenset({"ssn"}), search=("555 22 1111", "ssn is"), profanity_filter=True
    )
    assert text.search[0].hits == ()
    assert "555" not in " ".join(h.snippet for found in text.search for h in found.hits)


def test_every_flag_in_every_combination():
    for flags in itertools.product([False, True], repeat=5):
        names = ("punctuate", "numerals", "smart_format", "dictation", "filler_words")
        wanted = TextOptions(**dict(zip(names, flags, strict=True)))
        assert TextPipeline(wanted, "en").final(words("Um, five dollars comma please")).words
