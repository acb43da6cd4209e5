"""Settings of one stream, from the query string and `configure` messages, checked in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from frontend.audio.format import AudioFormat
from frontend.errors import InvalidConfig
from frontend.protocols.base import StreamOptions
from frontend.speech.stabilizer import Policy
from frontend.text import options as text_options
from frontend.text.options import TextOptions
from frontend.text.pipeline import TextPipeline

NOT_IN_EFFECT = ("custom_vocabulary",)
"""Settings that are accepted, remembered and named in `ready`, but do nothing yet."""


MOST_TOLD = 5
"""Wrong settings named in one error."""

Phrases = Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=200)]
LISTS = ("redact", "replace", "search", "custom_vocabulary")


class StreamConfig(BaseModel):
    """Unknown settings are refused with a list of the known ones; `encoding`, `sample_rate` and `channels` are checked
    by `AudioFormat`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: str = "linear16"
    sample_rate: int = 16_000
    channels: int = 1
    language: Annotated[str, StringConstraints(pattern=r"^(auto|multi|[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?)$")] = "en"
    task: Literal["transcribe", "translate"] = "transcribe"
    model: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    interim_results: bool = True
    stability: Policy = "local_agreement"
    alternatives: Annotated[int, Field(ge=0, le=3)] = 0
    vad_enabled: bool = True
    endpointing_ms: Annotated[int, Field(ge=10, le=5000)] = 500
    punctuate: bool = True
    smart_format: bool = False
    numerals: bool = False
    dictation: bool = False
    filler_words: bool = True
    profanity_filter: bool = False
    redact: Phrases = []
    replace: Phrases = []
    search: Phrases = []
    min_confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    low_confidence: Literal["mark", "drop"] = "mark"
    custom_vocabulary: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=1000)
    ] = []

    @property
    def audio_format(self) -> AudioFormat:
        """Raises `InvalidAudio` when the three audio settings are not supported together."""
        return AudioFormat(self.encoding, self.sample_rate, self.channels)

    @property
    def options(self) -> StreamOptions:
        return StreamOptions(
            audio=self.audio_format,
            model=self.model,
            language=self.language,
            task=self.task,
            alternatives=self.alternatives,
            stability=self.stability,
            interim_results=self.interim_results,
            resumable=True,
            vad_enabled=self.vad_enabled,
            endpointing_ms=self.endpointing_ms,
            text=self.text,
        )

    @property
    def text(self) -> TextOptions:
        """Raises `InvalidConfig` for what cannot be redacted, found or replaced."""
        given = {name: getattr(self, name) for name in text_options.NAMES}
        return text_options.updated(TextOptions(), given)

    def not_in_effect(self) -> list[str]:
        """The settings given that do nothing yet."""
        names = [name for name in NOT_IN_EFFECT if getattr(self, name)]
        return names + text_options.not_in_effect(self.text, self.language)


def updated(config: StreamConfig, changes: Mapping[str, Any]) -> StreamConfig:
    """A copy with the given settings changed.

    Raises `InvalidConfig` naming each wrong setting and what it takes, or `InvalidAudio` for an audio format.
    """
    try:
        new = StreamConfig.model_validate(config.model_dump() | dict(changes))
    except ValidationError as error:
        problems = [_say(e["loc"], e["type"], e["msg"]) for e in error.errors()]
        more = [f"and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
        raise InvalidConfig("; ".join(problems[:MOST_TOLD] + more)) from None
    TextPipeline(new.options.text, new.language)  # both raise what is wrong with them
    return new


def from_query(pairs: Mapping[str, list[str]]) -> StreamConfig:
    """Settings of a query string; lists are repeated keys or one value with commas. Unknown keys are ignored."""
    changes: dict[str, Any] = {}
    for name in StreamConfig.model_fields:
        values = pairs.get(name)
        if not values:
            continue
        changes[name] = [w.strip() for v in values for w in v.split(",") if w.strip()] if name in LISTS else values[-1]
    return updated(StreamConfig(), changes)


def _say(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part)[:40] for part in location)
    if kind == "extra_forbidden":
        return f"there is no setting {name!r}; there is {', '.join(StreamConfig.model_fields)}"
    return f"{name}: {message[0].lower()}{message[1:]}"
