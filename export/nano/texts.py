"""Sentences to synthesise: a generator and freely licensed texts of Debian packages.

Five sources of English, all without digits (numbers are spelled as they are spoken); other languages in `languages.py`:

- The generator of `english.py`: templates over word classes.
- WordNet's usage examples (`wordnet-base`, WordNet 3.0 licence).
- Its definitions after the words that they define, to train on only: how rare words are spelled is learned from them.
- Quotations of `fortunes` (BSD), the files that are fit for company.
- Words of a dictionary (`wamerican`, public domain), a few at a time, to train on only: most are in no other sentence.

The split into training and held-out text is a property of the text itself (`is_held_out`), so the same sentence can
never be on both sides, whichever source or seed it came from.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path

from export.nano.english import CLASSES, COMMANDS, DAYS, MONTHS, ONES, ORDINALS, TENS, Generator
from export.nano.languages import LANGUAGES
from export.nano.phrasebook import PhraseBook

log = logging.getLogger(__name__)
WORDNET = Path("/usr/share/wordnet")
DICTIONARY = Path("/usr/share/dict/american-english")
FORTUNES = Path("/usr/share/games/fortunes")
FORTUNE_FILES = [
    "computers",
    "computers",
    "cookie",
    "education",
    "food",
    "fortunes",
    "kids",
    "linux",
    "literature",
    "platitudes",
    "riddles",
    "science",
    "wisdom",
    "work",
]
HELD_OUT_SHARE = 50  # one sentence in fifty is never trained on

_ALLOWED = re.compile(r"[A-Za-z][A-Za-z' ,.?!\-]*[.?!]")
_WORD = re.compile(r"(?:[^\W\d_]|')+")


def words_of(text: str) -> list[str]:
    """Lower-cased words without punctuation."""
    return [w.lower() for w in _WORD.findall(text)]


def is_held_out(text: str) -> bool:
    """True for the sentences kept out of training: decided by a hash of the words alone."""
    digest = hashlib.sha1(" ".join(words_of(text)).encode()).digest()
    return digest[0] * 256 + digest[1] < 65536 // HELD_OUT_SHARE


def single_words(n: int, seed: int) -> list[str]:
    """`n` sentences of one word, none of them held out: digits, other numbers and what one says to a machine."""
    r = random.Random(seed)
    numbers = [*ONES[10:], *TENS, *ORDINALS[:12], "hundred", "oh"]
    kinds = [ONES[:10], numbers, CLASSES["techverb"].split(), COMMANDS, DAYS + MONTHS]
    kinds = [[w.capitalize() + "." for w in words if not is_held_out(w)] for words in kinds]
    return [r.choice(r.choices(kinds, (6, 1, 1, 1, 1))[0]) for _ in range(n)]


# --- texts of Debian packages -------------------------------------------------------------------------------------


def _tidy(text: str) -> str | None:
    """One plain sentence with a capital and a full stop, or None for what nobody would say."""
    text = re.sub(r"\s+", " ", text.replace("--", ", ").replace(";", ",").replace(":", ",")).strip(" ,-'\"")
    text = re.sub(r" ,", ",", text)
    if not text:
        return None
    text = text[0].upper() + text[1:]
    if text[-1] not in ".?!":
        text += "."
    n_words = len(text.split())
    if not (2 <= n_words <= 22) or not _ALLOWED.fullmatch(text) or ".." in text or "'s'" in text:
        return None
    if any(len(w) > 1 and w.isupper() for w in re.findall(r"[A-Za-z]+", text)):
        return None
    return text


def wordnet_examples(root: Path = WORDNET) -> Iterator[str]:
    """Usage examples of WordNet's glosses."""
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        for line in (root / name).read_text("utf-8", "ignore").splitlines():
            for example in re.findall(r'"([^"]+)"', line.partition("|")[2]):
                text = _tidy(example.split(" - ")[0].split("--")[0])
                if text and len(text.split()) >= 3:
                    yield text


def wordnet_definitions(root: Path = WORDNET) -> Iterator[str]:
    """A synset's first word and what it means: Nascent, being born or beginning."""
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        for line in (root / name).read_text("utf-8", "ignore").splitlines():
            data, _, gloss = line.partition("|")
            fields = data.split()
            if len(fields) < 5 or not gloss:
                continue
            word = re.sub(r"\(\w+\)$", "", fields[4]).replace("_", " ")
            meaning = re.sub(r"\([^)]*\)", "", gloss.split(";")[0].split('"')[0])
            text = _tidy(f"{word}, {meaning}")
            if text and len(text.split()) >= 3:
                yield text


def fortunes(root: Path = FORTUNES) -> Iterator[str]:
    """Sentences of fortune files, attributions dropped."""
    for name in dict.fromkeys(FORTUNE_FILES):
        path = root / name
        if not path.exists():
            continue
        for entry in path.read_text("utf-8", "ignore").split("\n%\n"):
            body = re.split(r"\n\s*--", entry)[0]
            for sentence in re.split(r"(?<=[.?!])\s+", re.sub(r"\s+", " ", body)):
                text = _tidy(sentence)
                if text and len(text.split()) >= 4:
                    yield text


def word_lists(seed: int, path: Path = DICTIONARY) -> Iterator[str]:
    """The words of a dictionary, each once, three to five at a time: Gently, abacus, reconciled."""
    words = (
        sorted({w for w in path.read_text("utf-8").split() if re.fullmatch("[A-Za-z][a-z]+", w)}) if path.exists() else []
    )
    r = random.Random(seed)
    r.shuffle(words)
    while words:
        n = r.randint(3, 5)
        some, words = words[:n], words[n:]
        said = r.choice([", ", " "]).join(some)
        yield said[0].upper() + said[1:] + "."


def corpus(n: int, seed: int, *, held_out: bool = False, language: str = "en") -> list[str]:
    """`n` different sentences, shuffled by `seed`; fewer of what there is less of.

    English, to train on: 40 % definitions, 25 % usage examples, 8 % lists of words, 5 % fortunes, the rest generated.
    Held out: 45 % usage examples, 10 % fortunes, the rest generated.
    Other languages: half from manuals and fortunes, the rest from the phrase book.
    """
    r = random.Random(seed)
    seen: set[str] = set()

    def take(source: Iterator[str], count: int) -> list[str]:
        out: list[str] = []
        for text in source:
            if len(out) >= count:
                break
            key = " ".join(words_of(text))
            if key not in seen and is_held_out(text) == held_out:
                seen.add(key)
                out.append(text)
        return out

    def shuffled(source: Iterator[str]) -> Iterator[str]:
        texts = list(source)
        r.shuffle(texts)
        return iter(texts)

    if language != "en":
        book = PhraseBook(language, seed)
        found = take(shuffled(LANGUAGES[language].prose()), n // 2)
        if not found:
            log.warning(
                "%s: no manuals or fortunes are installed; its phrase book alone (docs/models.md lists packages)", language
            )
        found += take((book.sentence() for _ in range(n * 200)), n - len(found))
        r.shuffle(found)
        return found
    generator = Generator(seed)
    examples, quotations = (0.45, 0.10) if held_out else (0.25, 0.05)
    found = take(shuffled(wordnet_examples()), round(n * examples)) + take(shuffled(fortunes()), round(n * quotations))
    if not held_out:
        found += take(shuffled(wordnet_definitions()), round(n * 0.40)) + take(word_lists(seed), round(n * 0.08))
    found += take((generator.sentence() for _ in range(n * 200)), n - len(found))
    r.shuffle(found)
    return found
