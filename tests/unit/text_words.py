"""Words for the tests of frontend/text: half a second each, with a pause of 25 ms after."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from frontend.speech.events import Word
from frontend.text.options import TextOptions
from frontend.text.pipeline import Text, TextPipeline
from frontend.text.words import transcript

STEP, LENGTH = 8_400, 8_000

HEARD = """
a an the and or to of um uh, Um, erm. one two three four five six seven eight nine ten twelve nineteen twenty
thirty eighty hundred thousand million oh o zero double triple first second third twentieth point 4111 1111 12
3.5 1984 2nd 555-22-1111 dollars cents euros percent per cent pm am p m march May june dot com at john example
gmail underscore dash slash www email card security code expires ssn phone comma period question mark new line
paragraph exclamation hello Hello, world. World! well fuck shit's Scunthorpe kpis it It big apple , -- don't
"""
"""Whatever some step looks at, and some that none does."""


def words(text: str | Iterable[str], at: int = 0, confidence: float = 0.9) -> tuple[Word, ...]:
    texts = text.split() if isinstance(text, str) else list(text)
    return tuple(Word(t, at + i * STEP, at + i * STEP + LENGTH, confidence) for i, t in enumerate(texts))


def final(text: str, language: str = "en", **options: object) -> Text:
    return TextPipeline(TextOptions(**options), language).final(words(text))  # type: ignore[arg-type]


def written(text: str, language: str = "en", **options: object) -> str:
    return transcript(final(text, language, **options).words)


def texts(most: int = 14) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(HEARD.split()), max_size=most)


RULES = (("big apple", "New York City"), ("it", ""), ("new line", "x"), ("john", "jon"))


@st.composite
def options(draw: st.DrawFn) -> TextOptions:
    flags = st.booleans()
    return TextOptions(
        punctuate=draw(flags),
        numerals=draw(flags),
        smart_format=draw(flags),
        dictation=draw(flags),
        filler_words=draw(flags),
        profanity_filter=draw(flags),
        redact=frozenset(
            draw(st.sets(st.sampled_from(["numbers", "aggressive_numbers", "pci", "ssn", "phone", "email"]), max_size=2))
        ),
        replace=draw(st.sampled_from([(), RULES])),
        search=draw(st.sampled_from([(), ("big apple", "exampel")])),
        min_confidence=draw(st.sampled_from([None, 0.5])),
        low_confidence=draw(st.sampled_from(["mark", "drop"])),
    )
