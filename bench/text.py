"""What the text steps cost per final of 30 words: `python -m bench.text`."""

from __future__ import annotations

import statistics
import timeit

from frontend.speech.events import Word
from frontend.text.options import DEEPGRAM, TextOptions
from frontend.text.pipeline import TextPipeline

SPOKEN = (
    "Um, I paid twenty five dollars and fifty cents on November second twenty twenty two comma my card is 4111" + 10 * " one"
)
PLAIN = (
    "The quick brown fox jumps over the lazy dog, and then it went to the river."
    " Nobody saw it there, so we all came back home before dark, and we slept."
)

EVERYTHING = TextOptions(
    punctuate=True,
    smart_format=True,
    dictation=True,
    filler_words=False,
    profanity_filter=True,
    redact=frozenset({"pci", "ssn", "phone", "email"}),
    replace=(("lazy dog", "quiet cat"), ("november", "December"), ("um", "")),
    search=("river bank", "credit card", "dollars"),
    min_confidence=0.3,
)
SETTINGS = {
    "nothing": TextOptions(),
    "Deepgram's defaults": DEEPGRAM,
    "numerals": TextOptions(numerals=True),
    "smart_format": TextOptions(smart_format=True),
    "redact pci": TextOptions(redact=frozenset({"pci"})),
    "search, 3 phrases": TextOptions(search=EVERYTHING.search),
    "everything": EVERYTHING,
}
REPEATS, CALLS = 15, 40


def measured(pipeline: TextPipeline, words: tuple[Word, ...], partial: bool) -> float:
    """Microseconds a call: the median of several runs."""
    call = (lambda: pipeline.partial(words, len(words) // 2)) if partial else (lambda: pipeline.final(words))
    return statistics.median(timeit.repeat(call, number=CALLS, repeat=REPEATS)) / CALLS * 1e6


def main() -> None:
    print(f"{'':22}{'final, plain':>14}{'final, numbers':>16}{'partial, numbers':>18}   microseconds, 30 words")
    for name, options in SETTINGS.items():
        plain, spoken = (
            tuple(Word(t, i * 8000, i * 8000 + 7000, 0.9) for i, t in enumerate(s.split())) for s in (PLAIN, SPOKEN)
        )
        costs = [
            measured(TextPipeline(options, "en"), words, p) for words, p in ((plain, False), (spoken, False), (spoken, True))
        ]
        print(f"{name:22}{costs[0]:14.1f}{costs[1]:16.1f}{costs[2]:18.1f}")


if __name__ == "__main__":
    main()
