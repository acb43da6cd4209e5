"""Redaction of numbers and e-mail addresses, said or written, by Deepgram's placeholders; safe on partials and on pauses.

Detection errs towards redacting. What is asked for decides by the number of digits of a run:

pci                 12 digits and more: [CREDIT_CARD_n] if the check digit is right, else [REDACTED]; [CVV_n] and
                    [CREDIT_CARD_EXPIRATION_n] after words that announce them
ssn                 9 digits, or 4 and more after "social" or "SSN": [SSN_n]
phone               7 to 15 digits: [PHONE_NUMBER_n]
numbers             3 digits and more: one of the above where it fits, else [REDACTED]
aggressive_numbers  every number
email               [EMAIL_ADDRESS_n]

A number read out in groups may be split over segments by its pauses. So a run that ends a segment is redacted from its third
(pci: fourth) digit on if it may go on, and the next segment's first run counts together with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from frontend.audio.format import ENGINE_RATE
from frontend.speech.events import Word
from frontend.text import digits, emails
from frontend.text.digits import Run
from frontend.text.words import bare, remarked

KINDS = ("numbers", "aggressive_numbers", "pci", "ssn", "phone", "email")
GENERIC = "[REDACTED]"

CARD = range(13, 20)
"""Digits of a card number (ISO/IEC 7812-1: up to 19)."""
CARD_LEAST = 12
"""The recogniser may lose a digit."""
PHONE = range(7, 16)
"""A local number to the longest of E.164."""
NANP = re.compile(r"1?[2-9]\d{2}[2-9]\d{6}")
SSN_LENGTH = 9
SSN_WRITTEN = re.compile(r"\d{3}-\d{2}-\d{4}")

CVV_CUES = frozenset({"cvv", "cvc", "cvn", "cvv2", "security", "verification"})
EXPIRY_CUES = frozenset({"expires", "expiry", "expiration", "expiring", "exp", "valid"})
SSN_CUES = frozenset({"ssn", "social"})
CUE_REACH = 8
"""Words before a number in which it is announced: "the security code on the back of it is"."""

OPEN_LEAST = {"pci": 4, "ssn": 3, "phone": 3}
"""Digits at the end of a segment from which on they may begin what is asked for. Four for cards, so that "100" stays."""

PAUSE = 15 * ENGINE_RATE
"""Samples: a longer pause than this does not continue a number. Time enough to turn the card over."""


@dataclass(frozen=True)
class Context:
    """What a stream remembers between segments: how often each entity was seen, the digits of a run that the last segment
    ended in and where, and its last words."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    open_digits: int = 0
    until: int = 0
    recent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """Words [start, end) become `[label_n]`, or `[REDACTED]` where there is no label."""

    start: int
    end: int
    label: str = ""


def redacted(
    words: Sequence[Word], kinds: frozenset[str], language: str, context: Context, ends: bool = True
) -> tuple[list[Word], Context]:
    """The words with placeholders, and the context for the next segment. `ends`: the segment is complete."""
    lows = [bare(w.text) for w in words]
    found = _Detector(words, lows, kinds, language, context, ends)
    counts = dict(context.counts)
    out: list[Word] = []
    at = 0
    for span in found.spans():
        text = GENERIC
        if span.label:
            counts[span.label] = counts.get(span.label, 0) + 1
            text = f"[{span.label}_{counts[span.label]}]"
        out += words[at : span.start]
        out.append(remarked(words[span.start : span.end], text))
        at = span.end
    after = replace(context, counts=counts, recent=(*context.recent, *lows)[-CUE_REACH:])
    if found.says_more():
        after = replace(after, open_digits=found.open_digits(), until=words[-1].end)
    return [*out, *words[at:]], after


def hidden(words: Sequence[Word], kinds: frozenset[str], language: str, context: Context) -> list[Word]:
    """Words of a partial that may still change: every number is masked, and with `email` nothing is shown, since any
    word may become the beginning of an address."""
    if "email" in kinds:
        return []
    out: list[Word] = []
    at = 0
    for run in digits.runs(words, language, continued=context.open_digits > 0):
        out += words[at : run.start]
        out.append(remarked(words[run.start : run.end], GENERIC))
        at = run.end
    return [*out, *words[at:]]


def may_join(a: str, b: str | None, kinds: frozenset[str], language: str) -> bool:
    if digits.may_join(a, b, language):
        return True
    return "email" in kinds and emails.may_join(bare(a), None if b is None else bare(b), language)


class _Detector:
    """Finds what is to be redacted in one segment."""

    def __init__(
        self, words: Sequence[Word], lows: Sequence[str], kinds: frozenset[str], language: str, context: Context, ends: bool
    ) -> None:
        self._words, self._lows, self._kinds, self._language = words, lows, kinds, language
        self._context, self._ends = context, ends
        self._runs = digits.runs(words, language, continued=context.open_digits > 0)

    def spans(self) -> list[Span]:
        """In order; an address and a number that overlap are one."""
        addresses = emails.spans(self._lows, self._language) if "email" in self._kinds else []
        found = [Span(a, b, "EMAIL_ADDRESS") for a, b in addresses]
        for run in self._runs:
            found += self._of_run(run)
        out: list[Span] = []
        for span in sorted(found, key=lambda s: s.start):
            if out and span.start < out[-1].end:
                out[-1] = Span(out[-1].start, max(out[-1].end, span.end), "EMAIL_ADDRESS")
            else:
                out.append(span)
        return out

    def says_more(self) -> bool:
        """Whether there is more than what may stand inside a number."""
        return bool(self._runs) or not all(digits.between(low, self._language) for low in self._lows)

    def open_digits(self) -> int:
        """Digits of the run that the segment ends in, those of the segment before included where it goes on from there."""
        if not self._runs or not self._is_last(self._runs[-1]):
            return 0
        return len(self._runs[-1].digits) + self._carried(self._runs[-1])

    def _is_last(self, run: Run) -> bool:
        return all(digits.between(low, self._language) for low in self._lows[run.end :])

    def _carried(self, run: Run) -> int:
        first = all(digits.between(low, self._language) for low in self._lows[: run.start])
        soon = self._words[run.start].start - self._context.until <= PAUSE
        return self._context.open_digits if first and soon else 0

    def _of_run(self, run: Run) -> list[Span]:
        carried = self._carried(run)
        whole = self._whole(run, carried)
        if whole is not None:
            return [Span(run.start, run.end, whole)]
        spans: list[Span] = []
        for i, part in enumerate(digits.split_runs(run, self._words, self._language)):
            label = self._label(part, 0 if i else carried)
            if label is not None:
                spans.append(Span(part.start, part.end, label))
        return spans

    def _whole(self, run: Run, carried: int) -> str | None:
        """The entity of a run that is redacted together with an "and" in it; None if its numbers count one by one."""
        total = len(run.digits) + carried
        if total >= CARD_LEAST and not self._kinds.isdisjoint({"pci", "numbers", "aggressive_numbers"}):
            return "CREDIT_CARD" if not carried and total in CARD and digits.luhn(run.digits) else ""
        if "ssn" in self._kinds and total == SSN_LENGTH:
            return "" if carried else "SSN"
        if "phone" in self._kinds and not carried and NANP.fullmatch(run.digits):
            return "PHONE_NUMBER"
        least = min((OPEN_LEAST[kind] for kind in self._kinds & OPEN_LEAST.keys()), default=total + 1)
        if not self._ends or not self._is_last(run) or total < least:
            return None
        year = re.fullmatch(r"(19|20)\d\d", run.digits) and max(len(p.digits) for p in run.parts) > 1
        return (self._label(run, carried) or "") if carried or not year else None

    def _label(self, run: Run, carried: int) -> str | None:
        """The entity of a run, empty for one without a name; None if it is not to be redacted."""
        n, kinds = len(run.digits), self._kinds
        total = n + carried
        near = (*self._context.recent, *self._lows[: run.start])[-CUE_REACH:]
        numeric = not kinds.isdisjoint({"numbers", "aggressive_numbers"})
        if "pci" in kinds and (cue := _last(near, CVV_CUES | EXPIRY_CUES)):
            if cue in CVV_CUES and n in (3, 4):
                return "CVV"
            if cue in EXPIRY_CUES and n in range(3, 9):
                return "CREDIT_CARD_EXPIRATION"
        if "ssn" in kinds:
            if total == SSN_LENGTH or (n in range(4, SSN_LENGTH + 1) and _last(near, SSN_CUES)):
                return "" if carried else "SSN"
            if any(SSN_WRITTEN.search(self._words[p.index].text) for p in run.parts):
                return ""
        if "phone" in kinds and total in PHONE:
            return "" if carried else "PHONE_NUMBER"
        if numeric and total >= 3:
            return "" if carried else _entity(run.digits)
        if "aggressive_numbers" in kinds and not (n == 1 and run.parts[0].ordinal):
            return ""
        return None


def _last(near: Sequence[str], cues: frozenset[str]) -> str:
    return next((low for low in reversed(near) if low in cues), "")


def _entity(number: str) -> str:
    if len(number) in CARD and digits.luhn(number):
        return "CREDIT_CARD"
    if len(number) == SSN_LENGTH:
        return "SSN"
    return "PHONE_NUMBER" if NANP.fullmatch(number) else ""
