"""Word errors, where the packages for them are installed (`pip install 'voiceforge[capacity]'`)."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

NORMALISER = "whisper-normalizer EnglishTextNormalizer"


def can_count() -> bool:
    return all(map(find_spec, ("jiwer", "whisper_normalizer")))


def count(said: Iterable[str], heard: Iterable[str]) -> tuple[int, int]:
    """Errors, and words said: jiwer's, after Whisper's normaliser on both sides. Texts without a word do not count."""
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalise = EnglishTextNormalizer()
    pairs = [(normalise(a), normalise(b)) for a, b in zip(said, heard, strict=True)]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        return 0, 0
    found = jiwer.process_words([a for a, _ in pairs], [b for _, b in pairs])
    errors = found.substitutions + found.deletions + found.insertions
    return errors, found.hits + found.substitutions + found.deletions
