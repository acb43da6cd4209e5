"""What differs from language to language: letters, voices, and freely licensed texts of Debian packages.

English has more of everything and its sources in `texts.py`. The others take a phrase book (`phrases/`), the manual of
GIMP (GFDL; packages `gimp-help-de` …), the Debian Administrator's Handbook (GPL-2+ or CC-BY-SA; `debian-handbook`) and
fortunes (`fortunes-de` …, GPL or free to copy).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

HANDBOOK = Path("/usr/share/doc/debian-handbook/html")
MANUAL = Path("/usr/share/gimp/2.0/help")
FORTUNES = Path("/usr/share/games/fortunes")
_PARAGRAPH = re.compile(r"<(?:p|dd|td|li)\b[^>]*>(.*?)</(?:p|dd|td|li)>", re.DOTALL)


@dataclass(frozen=True)
class Language:
    """`accents` are espeak-ng's voices, `festival` are festival's, `fortunes` the names of files."""

    code: str
    letters: str
    accents: tuple[str, ...]
    festival: tuple[str, ...] = ()
    fortunes: str = ""
    handbook: str = ""
    openings: str = ""
    """What may stand before the first letter."""

    @cached_property
    def _sayable(self) -> re.Pattern[str]:
        letters = f"A-Za-z{self.letters}{self.letters.upper()}"
        return re.compile(f"[{self.openings}]?[{letters}][{letters}' ,.?!{self.openings}\\-]*[.?!]")

    def tidy(self, text: str) -> str | None:
        """One plain sentence with a capital and a full stop, or None for what nobody would say."""
        text = text.replace("’", "'").replace(" - ", ", ").replace("--", ", ").replace(";", ",").replace(":", ",")
        text = re.sub(r"\s+", " ", text).strip(" ,-'\"«»„“”")
        text = re.sub(r" ([,.?!])", r"\1", text)
        if not 3 <= len(text.split()) <= 20 or not self._sayable.fullmatch(text) or ".." in text:
            return None
        if any(len(w) > 1 and w.isupper() for w in re.findall(r"[^\W\d_]+", text)) or re.search(r"[aeiou]'(?!\w)", text):
            return None  # an apostrophe at a word's end stands for an accent
        return text if next(c for c in text if c.isalpha()).isupper() else None

    def prose(self, manual: Path = MANUAL, handbook: Path = HANDBOOK, fortunes: Path = FORTUNES) -> Iterator[str]:
        """Sentences of what is installed, each once."""
        pages = [*sorted((manual / self.code).glob("*.html")), *sorted((handbook / self.handbook).rglob("*.html"))]
        paragraphs = (p for page in pages for p in _paragraphs(page))
        files = [p for name in self.fortunes.split() for p in sorted((fortunes / self.code).glob(f"{name}*"))]
        entries = (e for p in files if p.suffix in {"", ".fortunes"} for e in _entries(p))
        seen: set[str] = set()
        for block in (*paragraphs, *entries):
            for sentence in re.split(r"(?<=[.?!])\s+", block):
                text = self.tidy(sentence)
                if text and text not in seen and not _english(text):
                    seen.add(text)
                    yield text


def _paragraphs(page: Path) -> Iterator[str]:
    for body in _PARAGRAPH.findall(page.read_text("utf-8", "ignore")):
        if "<code" not in body and "<pre" not in body:
            yield re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", body)))


def _entries(path: Path) -> Iterator[str]:
    for entry in re.split(r"\n%+\n", path.read_text("utf-8", "ignore")):
        yield re.sub(r"\s+", " ", re.split(r"\n\s*--", entry)[0])


_ENGLISH = frozenset(["the", "of", "and", "this", "that", "you", "with", "are", "from", "can", "which", "not"])


def _english(text: str) -> bool:
    """Manuals are never translated to the end."""
    return not _ENGLISH.isdisjoint(text.lower().split())


LANGUAGES = {
    language.code: language
    for language in (
        Language("de", "äöüß", ("de",), (), "zitate sprichworte kinderzitate wusstensie anekdoten", "de-DE"),
        Language(
            "es", "áéíóúüñ", ("es", "es-419"), (), "refranes sabiduria vida ciencia proverbios amistad arte", "es-ES", "¿¡"
        ),
        Language("fr", "àâæçèéêëîïôùûüÿœ", ("fr", "fr-be", "fr-ch"), (), "", "fr-FR"),
        Language("it", "àèéìíòóùú", ("it",), ("lp_diphone", "pc_diphone"), "italia definizioni", "it-IT"),
    )
}
