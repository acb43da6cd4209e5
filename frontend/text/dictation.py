"""Spoken punctuation to marks, English, as in Deepgram's list of dictation commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from frontend.speech.events import Word
from frontend.text.words import capitalised, ends_sentence, merged, split

LANGUAGES = ("en",)

COMMANDS: dict[tuple[str, ...], str] = {
    ("period",): ".",
    ("full", "stop"): ".",
    ("comma",): ",",
    ("colon",): ":",
    ("semicolon",): ";",
    ("question", "mark"): "?",
    ("exclamation", "mark"): "!",
    ("exclamation", "point"): "!",
    ("new", "line"): "\n",
    ("new", "paragraph"): "\n\n",
}
LONGEST = max(map(len, COMMANDS))


def may_join(a: str, b: str | None) -> bool:
    """Every command joins the word before it, and may go on with the word after."""
    if b is None:
        return True
    low = split(b)[1].lower()
    return any(low in command for command in COMMANDS)


def dictated(words: Sequence[Word]) -> list[Word]:
    """A mark replaces the recogniser's own after the word before, which then lasts until the command's end; line breaks come
    after its marks. A command that opens the segment stays a word, of the mark alone."""
    out: list[Word] = []
    lows = [split(w.text)[1].lower() for w in words]
    at, capital = 0, False
    while at < len(words):
        length = next((n for n in range(LONGEST, 0, -1) if tuple(lows[at : at + n]) in COMMANDS), 0)
        if not length:
            word = words[at]
            out.append(replace(word, text=capitalised(word.text)) if capital else word)
            at, capital = at + 1, False
            continue
        mark = COMMANDS[tuple(lows[at : at + length])]
        said = words[at : at + length]
        if out:
            text = out[-1].text
            out[-1] = merged([out[-1], *said], text + mark if mark.isspace() else _bared(text) + mark)
        else:
            out.append(merged(said, mark))
        at, capital = at + length, mark.isspace() or ends_sentence(mark)
    return out


def _bared(text: str) -> str:
    """Without the marks that the recogniser heard in the pause before the command; dictated line breaks and quotes stay."""
    return text.rstrip(" .,;:!?…–—-")
