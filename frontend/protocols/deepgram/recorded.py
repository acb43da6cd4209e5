"""Deepgram's answer to a recording: what the sessions of its channels told, put together."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.protocols.base import Body, seconds
from frontend.protocols.deepgram.query import Listen
from frontend.protocols.deepgram.results import model_info, model_uuid, search_results, word
from frontend.speech.events import Event, Final, Word
from frontend.text.paragraphs import paragraphs, utterances
from frontend.text.pipeline import TextPipeline
from frontend.text.search import Found
from frontend.text.words import transcript


@dataclass(frozen=True)
class Recording:
    """What is known of one beside its words. `created` is ISO 8601; `duration` samples."""

    request_id: str
    created: str
    sha256: str
    duration: int
    model: str


class Transcript:
    """Collects the events of one channel."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._pipeline = TextPipeline(listen.options.text, listen.options.language)
        self.words: list[Word] = []
        self._found: dict[str, list[Found]] = {}
        self._languages: Counter[str] = Counter()
        self._certainty: dict[str, list[float]] = {}

    def add(self, event: Event) -> None:
        if not isinstance(event, Final):
            return
        text = self._pipeline.final(event.words)
        self.words += text.words
        for found in text.search:
            self._found.setdefault(found.query, []).append(found)
        if event.language and text.words:
            self._languages[event.language] += len(text.words)
            self._certainty.setdefault(event.language, []).append(event.language_probability or 0.0)

    def channel(self) -> Body:
        languages = [language for language, _ in self._languages.most_common()]
        body: Body = {"alternatives": [self._alternative(languages)]}
        if self._listen.options.text.search:
            body["search"] = search_results(self._search())
        if self._listen.query.detect_language and languages:
            certain = self._certainty[languages[0]]
            body |= {"detected_language": languages[0], "language_confidence": round(sum(certain) / len(certain), 4)}
        return body

    def _search(self) -> list[Found]:
        """The hits of all segments, the likeliest first."""
        hits = {query: [hit for found in parts for hit in found.hits] for query, parts in self._found.items()}
        return [
            Found(q, tuple(sorted(hits.get(q, ()), key=lambda h: -h.confidence))) for q in self._listen.options.text.search
        ]

    def _alternative(self, languages: Sequence[str]) -> Body:
        body: Body = {
            "transcript": transcript(self.words),
            "confidence": _confidence(self.words),
            "words": [word(w, self._listen) for w in self.words],
        }
        if self._listen.multilingual and languages:
            body["languages"] = list(languages)
        if self._listen.query.paragraphs or self._listen.options.text.smart_format:
            body["paragraphs"] = _paragraphs(self.words)
        return body

    def utterances(self, channel: int, request_id: str) -> list[Body]:
        split = utterances(self.words, self._listen.query.utt_split)
        return [
            {
                "start": seconds(words[0].start),
                "end": seconds(max(w.end for w in words)),
                "confidence": _confidence(words),
                "channel": channel,
                "transcript": transcript(words),
                "words": [word(w, self._listen) for w in words],
                "id": str(uuid.uuid5(uuid.UUID(request_id), f"{channel}.{i}")),
            }
            for i, words in enumerate(split)
        ]


def response(listen: Listen, recording: Recording, channels: Sequence[Transcript]) -> Body:
    results: Body = {"channels": [channel.channel() for channel in channels]}
    if listen.query.utterances:
        told = [u for i, channel in enumerate(channels) for u in channel.utterances(i, recording.request_id)]
        results["utterances"] = sorted(told, key=lambda u: u["start"])
    model = model_uuid(recording.model)
    metadata: Body = {
        "transaction_key": "deprecated",
        "request_id": recording.request_id,
        "sha256": recording.sha256,
        "created": recording.created,
        "duration": seconds(recording.duration),
        "channels": len(channels),
        "models": [model],
        "model_info": {model: model_info(recording.model)},
    }
    given = {"tags": listen.query.tag, "extra": listen.extra, "not_in_effect": list(listen.not_in_effect)}
    return {"metadata": metadata | {name: value for name, value in given.items() if value}, "results": results}


def _confidence(words: Sequence[Word]) -> float:
    return round(sum(w.confidence for w in words) / len(words), 4) if words else 0.0


def _paragraphs(words: Sequence[Word]) -> Body:
    found = paragraphs(words)
    return {
        "transcript": "\n\n".join(" ".join(s.text for s in p.sentences) for p in found),
        "paragraphs": [
            {
                "sentences": [{"text": s.text, "start": seconds(s.start), "end": seconds(s.end)} for s in p.sentences],
                "num_words": p.num_words,
                "start": seconds(p.start),
                "end": seconds(p.end),
            }
            for p in found
        ],
    }
