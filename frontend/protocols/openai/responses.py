"""Answers of the transcription endpoints: what a session told, as JSON, as events of a stream, as lines of subtitles."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from frontend.protocols.base import RATE, Body, seconds
from frontend.protocols.openai.languages import name_of
from frontend.protocols.openai.transcription import Wanted
from frontend.speech.events import Event, Final
from frontend.text.words import split

SPEAKER = "A"
"""Of everybody: speakers are not told apart yet."""
TEMPERATURE = 0.0
"""Decoding is greedy."""
SEEK_RATE = 100
"""Whisper counts frames of 10 ms."""
KNOWN_MODELS = (
    "whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)  # fmt: skip
"""OpenAI's, as its clients list them."""
OWNER = "voiceforge"


class Transcript:
    """Collects the finals that say something."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.finals: list[Final] = []

    def add(self, event: Event) -> Final | None:
        """The final, if it is one to be told."""
        if not isinstance(event, Final) or not event.text:
            return None
        self.finals.append(event)
        return event

    @property
    def text(self) -> str:
        return " ".join(f.text for f in self.finals)

    def body(self, samples: int) -> Body:
        """The JSON of `json`, `verbose_json` or `diarized_json`; `samples` is the length of the recording."""
        form = self._wanted.form
        if form.response_format == "verbose_json":
            return self._verbose(samples)
        if form.response_format == "diarized_json":
            segments = [{"type": "transcript.text.segment", **segment(i, f)} for i, f in enumerate(self.finals)]
            return {
                "task": "transcribe",
                "duration": seconds(samples),
                "text": self.text,
                "segments": segments,
                "usage": usage(samples),
            }
        return {"text": self.text, **self._more(), "usage": usage(samples)}

    def subtitled(self) -> list[dict[str, Any]]:
        """The finals as `frontend.batch.subtitles` takes them."""
        return [
            {
                "start": seconds(f.start),
                "duration": seconds(f.end - f.start),
                "transcript": f.text,
                "words": [{"word": w.text, "start": seconds(w.start), "end": seconds(w.end)} for w in f.words],
            }
            for f in self.finals
        ]

    # --- events of a stream ---------------------------------------------------------------------------------------

    def events(self, final: Final) -> list[Body]:
        """Of the last final: the text that it adds, which later ones only add to."""
        i = len(self.finals) - 1
        delta: Body = {"type": "transcript.text.delta", "delta": f" {final.text}" if i else final.text}
        if self._wanted.logprobs:
            delta["logprobs"] = logprobs(final, first=i == 0)
        if not self._wanted.diarized:
            return [delta]
        told = segment(i, final)
        return [delta | {"segment_id": told["id"]}, {"type": "transcript.text.segment", **told}]

    def done(self, samples: int) -> Body:
        return {"type": "transcript.text.done", "text": self.text, **self._more(), "usage": usage(samples)}

    def _more(self) -> Body:
        """What is there only if it was asked for."""
        body: Body = {}
        if self._wanted.logprobs:
            body["logprobs"] = [p for i, f in enumerate(self.finals) for p in logprobs(f, first=i == 0)]
        if self._wanted.form.languages:
            body["languages"] = [{"code": code} for code in dict.fromkeys(f.language for f in self.finals if f.language)]
        return body

    def _verbose(self, samples: int) -> Body:
        translated = self._wanted.options.task == "translate"
        found = next((f.language for f in self.finals if f.language), None)
        body: Body = {
            "task": self._wanted.options.task,
            "language": "english" if translated else name_of(found or self._wanted.form.language),
            "duration": seconds(samples),
            "text": self.text,
        }
        wishes = self._wanted.form.timestamp_granularities or ["segment"]
        if "segment" in wishes:
            body["segments"] = [verbose_segment(i, f) for i, f in enumerate(self.finals)]
        if "word" in wishes:
            body["words"] = [word for f in self.finals for word in words(f)]
        return body | {"usage": usage(samples)}


def usage(samples: int) -> Body:
    return {"type": "duration", "seconds": seconds(samples)}


def span(final: Final) -> tuple[int, int]:
    """Samples from the first word's start to the last one's end; the segment's own without words."""
    if not final.words:
        return final.start, final.end
    return final.words[0].start, max(w.end for w in final.words)


def segment(index: int, final: Final) -> Body:
    """As `diarized_json` and its stream have it."""
    start, end = span(final)
    return {"id": f"seg_{index}", "start": seconds(start), "end": seconds(end), "text": final.text, "speaker": SPEAKER}


def verbose_segment(index: int, final: Final) -> Body:
    start, end = span(final)
    return {
        "id": index,
        "seek": final.start * SEEK_RATE // RATE,
        "start": seconds(start),
        "end": seconds(end),
        "text": final.text,
        "tokens": list(final.tokens),
        "temperature": TEMPERATURE,
        "avg_logprob": round(sum(final.logprobs) / len(final.logprobs), 4) if final.logprobs else 0.0,
        "compression_ratio": round(compression_ratio(final.text), 4),
        "no_speech_prob": round(final.no_speech_probability, 4),
    }


def compression_ratio(text: str) -> float:
    """Whisper's own sign of a decoder that repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def words(final: Final) -> list[Body]:
    """Without the punctuation around them, as OpenAI's are."""
    return [{"word": split(w.text)[1] or w.text, "start": seconds(w.start), "end": seconds(w.end)} for w in final.words]


def logprobs(final: Final, *, first: bool) -> list[Body]:
    """An entry a word: the engine does not tell the text of single tokens. Joined, the texts are the delta."""
    out: list[Body] = []
    at = token = 0
    for word, n in zip(final.words, final.word_tokens, strict=False):
        end = max(at, final.text.find(word.text, at) + len(word.text))
        text = final.text[at:end] if at or first else f" {final.text[at:end]}"
        logprob = round(sum(final.logprobs[token : token + n]), 4)
        out.append({"token": text, "bytes": list(text.encode()), "logprob": logprob})
        at, token = end, token + n
    return out


def server_sent(body: Body) -> bytes:
    """An event of a stream (HTML standard, server-sent events)."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def model_body(name: str, ours: str, created: int) -> Body:
    """`name` is one of ours or an alias of `ours`; `created` is in seconds since 1970."""
    owner = OWNER if name == ours else f"{OWNER}:{ours}"
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(bodies: Sequence[Body]) -> Body:
    return {"object": "list", "data": list(bodies)}
