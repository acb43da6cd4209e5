"""A checkpoint of several languages: error rates by language, and whether it finds out which one it hears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.local import RATE, LocalEngine, Playing
from export.engine.vocabulary import AUTO
from export.nano import corpus
from export.nano.evaluate import word_errors
from frontend.speech.events import Final
from frontend.speech.settings import SessionSettings

FOUND_FROM_S = 2.0
PAUSE = np.zeros(RATE, np.int16)


def languages(engine: LocalEngine, sets: Mapping[str, Sequence[corpus.Item]]) -> dict[str, Any]:
    """Of each set, which is of one language: WER when told the language, offline and streamed; the share of utterances whose
    language is found in their first two seconds; and, in sessions with `language=multi`, the share of right finals and the
    WER."""
    each = replace(SessionSettings(), find_language="each")
    rows: dict[str, Any] = {}
    for name, items in sets.items():
        code, references = items[0].language, [i.text for i in items]
        long = [i for i in items if i.n_samples >= FOUND_FROM_S * RATE]
        clips = [i.audio()[: round(FOUND_FROM_S * RATE)] for i in long]
        heard = [np.concatenate([PAUSE, i.audio(), PAUSE]) for i in items]
        told = [_finals(Playing(engine, SessionSettings(), language=code), audio) for audio in heard]
        found = [_finals(Playing(engine, each, language=AUTO), audio) for audio in heard]
        codes = [f.language for finals in found for f in finals if f.text]
        offline = [engine.decode(i.audio(), language=code).text for i in items]
        rows[name] = {
            "language": code,
            "wer": round(word_errors(references, offline, code).wer, 2),
            "wer_streamed": round(word_errors(references, map(_text, told), code).wer, 2),
            "found_in_2_s": round(float(np.mean([engine.decode(c, language=AUTO).language == code for c in clips])), 4),
            "found_in_finals": round(float(np.mean([c == code for c in codes])), 4),
            "wer_multi": round(word_errors(references, map(_text, found), code).wer, 2),
            "utterances": len(items),
        }
    return rows


def _finals(playing: Playing, audio: np.ndarray[Any, np.dtype[np.int16]]) -> list[Final]:
    return [t.event for t in playing.play(audio) if isinstance(t.event, Final)]


def _text(finals: Sequence[Final]) -> str:
    return " ".join(f.text for f in finals)
