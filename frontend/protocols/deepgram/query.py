"""Query parameters of `/v1/listen`, live and pre-recorded, as a session's options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from frontend.audio.format import ENGINE_RATE, AudioFormat
from frontend.errors import InvalidConfig
from frontend.protocols.base import Callback, StreamOptions
from frontend.text import options as text_options
from frontend.text.options import TextOptions, base_language
from frontend.text.pipeline import TextPipeline

Pairs = Mapping[str, Sequence[str]]
Kind = Literal["live", "recorded"]

MULTI, AUTO = "multi", "auto"
"""Languages that are none: found for each utterance (Deepgram's word, and ours), or once."""

SHORTEST_ENDPOINT_MS = 100
"""Silence that may end an utterance at the least: a shorter one is also the closure of a plosive within a word."""
DEFAULT_ENDPOINT_MS = 300
"""Without `endpointing`. Deepgram's own 10 ms is below what voice activity can tell here."""
FALSE_ENDPOINT_MS = 500
"""With `endpointing=false` a pause still ends a segment, for the decoder's sake; it is not told as an endpoint."""
RECORDED_ENDPOINT_MS = 500
"""Of recordings: nobody waits for a final, and longer segments are recognised better."""

NOT_YET = (
    "keyterm", "keywords", "language_hint", "diarize", "diarize_model", "diarize_version", "detect_entities", "version",
    "tier", "no_delay", "measurements", "sentiment", "summarize", "topics", "custom_topic", "custom_topic_mode", "intents",
    "custom_intent", "custom_intent_mode", "translate",
)  # fmt: skip
"""Accepted, and told to be without effect."""
ONLY: dict[Kind, tuple[str, ...]] = {
    "live": ("interim_results", "endpointing", "utterance_end_ms", "vad_events"),
    "recorded": ("detect_language", "paragraphs", "utterances", "utt_split"),
}
NEUTRAL = {"", "false", "latest"}
"""Values that ask for nothing."""

SWITCHES = ("punctuate", "smart_format", "numerals", "dictation", "profanity_filter", "filler_words")
TEXT = (*SWITCHES, "redact", "replace", "search")
"""Steps of the text; `Configure` can turn the switches."""

LISTS = ("tag", "extra", "replace", "search", "redact", "keyterm", "keywords", "language_hint")


class ListenQuery(BaseModel):
    """The parameters that are in effect, but for those of the text (see `TextOptions`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    encoding: str | None = None
    sample_rate: int | None = None
    channels: int = 1
    multichannel: bool = False
    model: Annotated[str, StringConstraints(max_length=100)] | None = None
    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,5}([-_][A-Za-z0-9]{2,8})*$")] = "en"
    interim_results: bool = False
    endpointing: Annotated[int, Field(ge=0, le=10_000)] | bool = True
    utterance_end_ms: Annotated[int, Field(ge=100, le=60_000)] | None = None
    vad_events: bool = False
    callback: Annotated[str, StringConstraints(max_length=2000)] | None = None
    callback_method: Literal["POST", "PUT"] = "POST"
    tag: list[str] = []
    extra: list[str] = []
    detect_language: bool = False
    utterances: bool = False
    utt_split: Annotated[float, Field(gt=0, le=60)] = 0.8
    paragraphs: bool = False

    @field_validator("endpointing", mode="before")
    @classmethod
    def _endpointing(cls, value: object) -> object:
        """pydantic takes 0 and 1 for booleans where it may."""
        words = {"true": True, "false": False}
        text = str(value).lower()
        return words[text] if text in words else int(text) if text.isdigit() else value

    @field_validator("detect_language", mode="before")
    @classmethod
    def _detect_language(cls, value: object) -> object:
        """Also a list of languages to choose from, which only narrows the choice."""
        return value if str(value).lower() in {"true", "false"} else True

    @property
    def endpointing_ms(self) -> int:
        if isinstance(self.endpointing, bool):
            return DEFAULT_ENDPOINT_MS if self.endpointing else FALSE_ENDPOINT_MS
        return min(max(self.endpointing, SHORTEST_ENDPOINT_MS), 5000)


@dataclass(frozen=True)
class Listen:
    """A request, understood. `not_in_effect` names the parameters that change nothing."""

    query: ListenQuery
    options: StreamOptions
    not_in_effect: tuple[str, ...]

    @property
    def punctuated(self) -> bool:
        text = self.options.text
        return text.punctuate or text.smart_format or text.dictation

    @property
    def multilingual(self) -> bool:
        return self.options.language == MULTI

    @property
    def extra(self) -> dict[str, str]:
        """What the client wants back, by key."""
        return {key: value for key, _, value in (item.partition(":") for item in self.query.extra)}


def understood(pairs: Pairs, kind: Kind) -> Listen:
    """Raises `InvalidConfig` or `InvalidAudio` for a value that cannot be; unknown keys are ignored, as Deepgram does."""
    spread = {name: _spread(values) if name in LISTS else list(values) for name, values in pairs.items()}
    given = {name: values for name, values in spread.items() if values}  # a list may be sent that is empty
    try:
        query = ListenQuery.model_validate({k: v if k in ("tag", "extra") else v[-1] for k, v in given.items()})
    except ValidationError as error:
        told = error.errors()[0]
        raise InvalidConfig(f"{told['loc'][0]}={given[str(told['loc'][0])][-1][:40]!r}: {told['msg'].lower()}") from None
    finding = kind == "recorded" and query.detect_language
    language = AUTO if finding else base_language(query.language)
    text = text_options.from_query({name: given[name] for name in TEXT if name in given}, text_options.DEEPGRAM)
    TextPipeline(text, language)  # says at once what it could not do
    options = StreamOptions(
        audio=_audio(query, kind),
        model=query.model or None,
        language=language,
        interim_results=query.interim_results,
        endpointing_ms=query.endpointing_ms if kind == "live" else RECORDED_ENDPOINT_MS,
        utterance_end_ms=query.utterance_end_ms,
        multichannel=query.multichannel,
        text=text,
        callback=Callback(query.callback, query.callback_method) if query.callback else None,
    )
    return Listen(query, options, (*_idle(given, kind), *text_options.not_in_effect(_asked(given, text), language)))


def _asked(given: Mapping[str, list[str]], text: TextOptions) -> TextOptions:
    """Without `filler_words=false` where nobody said it: a default need not be told."""
    return text if "filler_words" in given else text_options.updated(text, {"filler_words": True})


def _idle(given: Mapping[str, list[str]], kind: Kind) -> list[str]:
    elsewhere = ONLY["recorded" if kind == "live" else "live"]
    return [n for n in (*NOT_YET, *elsewhere) if any(v.lower() not in NEUTRAL for v in given.get(n, ()))]


def _spread(values: Sequence[str]) -> list[str]:
    """A list in one value as JSON, which the generated JavaScript client sends, as its items."""
    out: list[str] = []
    for value in values:
        items: Any = None
        if value.startswith("["):
            try:
                items = json.loads(value)
            except ValueError:
                items = None
        out += [sendable(str(item)) for item in items] if isinstance(items, list) else [value]
    return out


def sendable(text: str) -> str:
    """Without the halves of characters that JSON can name and UTF-8 cannot send."""
    return text.encode(errors="replace").decode()


def _audio(query: ListenQuery, kind: Kind) -> AudioFormat:
    """A container, to be found out from its bytes, unless an encoding is named."""
    audio = AudioFormat(query.encoding or "auto", query.sample_rate or ENGINE_RATE, query.channels if query.encoding else 1)
    if query.sample_rate is None and audio.needs_rate:
        if kind == "live":
            raise InvalidConfig(f"sample_rate is required with encoding={audio.encoding!r}")
        return AudioFormat("auto")
    return audio
