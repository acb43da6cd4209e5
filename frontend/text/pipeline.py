"""The text steps of one stream, in one order.

1. `redact`, on the words as recognised: no later step, finding or option sees what is redacted
2. `filler_words`
3. `replace`, which corrects what was recognised before it is formatted
4. `profanity_filter`
5. `search` (findings only, finals only)
6. `dictation`, before numbers: a spoken "comma" keeps numbers apart
7. `smart_format`, else `numerals`
8. `min_confidence`, on words as written: of a number either all is kept or nothing
9. `punctuate`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from frontend.errors import InvalidConfig
from frontend.speech.events import Word
from frontend.text import dictation, fillers, numbers, redact, smart
from frontend.text.options import TextOptions, base_language
from frontend.text.profanity import masked
from frontend.text.replacing import Replacer
from frontend.text.search import Found, Searcher
from frontend.text.steps import Step, Words, bared


@dataclass(frozen=True)
class Text:
    """Words as the client reads them, and findings."""

    words: tuple[Word, ...]
    stable: int
    """Leading words that no later partial and no final of the segment changes; all of a final."""
    low: tuple[int, ...] = ()
    """Indices of words below `min_confidence`, when they are to be marked."""
    search: tuple[Found, ...] = ()


class TextPipeline:
    """Not to be shared between streams or channels: it counts entities and remembers a number that a pause cut in two."""

    def __init__(self, options: TextOptions, language: str) -> None:
        """Raises `InvalidConfig` for redaction in a language in which spoken numbers would not be found."""
        self.options = options
        self._language = base_language(language)
        if options.redact and self._language not in numbers.LANGUAGES:
            known = ", ".join(numbers.LANGUAGES)
            raise InvalidConfig(f"redact does not find spoken numbers in language {language[:40]!r}, only in {known}")
        self._context = redact.Context()
        self._search = Searcher(options.search) if options.search else None
        self._before, self._after = self._steps()
        self._marks = options.min_confidence is not None and options.low_confidence == "mark"

    @property
    def steps(self) -> list[Step]:
        """What is done to words besides redaction, in order."""
        return [*self._before, *self._after]

    def final(self, words: Sequence[Word]) -> Text:
        """The words of a segment that is complete; call once a segment, in order."""
        if self.options.redact:
            words, self._context = redact.redacted(words, self.options.redact, self._language, self._context)
        for step in self._before:
            words = step.run(words)
        found = self._search(words) if self._search else ()
        for step in self._after:
            words = step.run(words)
        return Text(tuple(words), len(words), self._low(words), found)

    def partial(self, words: Sequence[Word], stable: int) -> Text:
        """The words of a running segment, of which the first `stable` will be the first words of its final.

        Of these, what is settled is treated as in the final, and stays; the rest is shown without merging, replacing or
        formatting, and with `redact` without its numbers.
        """
        firm, tail = list(words[:stable]), list(words[stable:])
        if self.options.redact:
            firm, tail = self._redacted(firm, tail)
        for step in self.steps:
            firm, tail = step.partial(firm, tail)
        shown = (*firm, *tail)
        return Text(shown, len(firm), self._low(shown))

    def _redacted(self, firm: Words, tail: Words) -> tuple[list[Word], list[Word]]:
        kinds, language = self.options.redact, self._language
        step = Step(
            "redact",
            lambda words: redact.redacted(words, kinds, language, self._context, ends=False)[0],
            partial(redact.may_join, kinds=kinds, language=language),
            lambda words: redact.hidden(words, kinds, language, self._context),
        )
        return step.partial(firm, tail)

    def _low(self, words: Words) -> tuple[int, ...]:
        least = self.options.min_confidence
        return tuple(i for i, w in enumerate(words) if w.confidence < least) if self._marks and least is not None else ()

    def _steps(self) -> tuple[list[Step], list[Step]]:
        """Those before the search and those after it."""
        o, language = self.options, self._language
        before: list[Step] = []
        after: list[Step] = []
        if not o.filler_words and language in fillers.FILLERS:
            run = partial(fillers.without_fillers, language=language)
            before.append(Step("filler_words", run, partial(fillers.may_join, language=language), run))
        if o.replace:
            replacer = Replacer(o.replace)
            before.append(Step("replace", replacer, replacer.may_join))
        if o.profanity_filter:
            before.append(Step("profanity_filter", lambda words: [masked(w, language) for w in words]))
        if o.dictation and language in dictation.LANGUAGES:
            after.append(Step("dictation", dictation.dictated, dictation.may_join))
        if o.smart_format and language in smart.LANGUAGES:
            after.append(Step("smart_format", smart.formatted, smart.may_join))
        elif (o.numerals or o.smart_format) and language in numbers.LANGUAGES:
            run = partial(numbers.numerals, language=language)
            after.append(Step("numerals", run, partial(numbers.may_join, language=language)))
        least = o.min_confidence
        if least is not None and o.low_confidence == "drop":
            after.append(Step("min_confidence", lambda words: [w for w in words if w.confidence >= least]))
        if not (o.punctuate or o.smart_format or o.dictation):
            after.append(Step("punctuate", bared))
        return before, after
