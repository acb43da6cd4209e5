"""Words, alternatives and model descriptions as both kinds of `/v1/listen` write them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from frontend.protocols.base import Body, seconds
from frontend.protocols.deepgram.query import Listen
from frontend.speech.events import Word
from frontend.text.pipeline import Text
from frontend.text.search import Found
from frontend.text.words import bare, transcript

ARCH = "whisper"


def model_uuid(model: str) -> str:
    """The same for a model's name everywhere."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"voiceforge:{model}"))


def model_info(model: str) -> Body:
    return {"name": model, "version": "latest", "arch": ARCH}


def word(w: Word, listen: Listen) -> Body:
    body = {
        "word": bare(w.text) or w.text,
        "start": seconds(w.start),
        "end": seconds(w.end),
        "confidence": round(w.confidence, 4),
    }
    if listen.punctuated:
        body["punctuated_word"] = w.text
    return body


def alternative(text: Text, confidence: float, language: str | None, listen: Listen) -> Body:
    """`languages` only where the language was to be found, and was."""
    words = [word(w, listen) for w in text.words]
    body: Body = {"transcript": transcript(text.words), "confidence": round(confidence, 4), "words": words}
    if listen.multilingual and language:
        body["languages"] = [language]
        for w in words:
            w["language"] = language
    return body


def search_results(found: Sequence[Found]) -> list[Body]:
    return [{"query": f.query, "hits": [_hit(h.confidence, h.start, h.end, h.snippet) for h in f.hits]} for f in found]


def _hit(confidence: float, start: int, end: int, snippet: str) -> Body:
    return {"confidence": round(confidence, 4), "start": seconds(start), "end": seconds(end), "snippet": snippet}
