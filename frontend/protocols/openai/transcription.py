"""The form of `/v1/audio/transcriptions` and `/translations` as a session's options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from frontend.audio.format import AudioFormat
from frontend.protocols.base import StreamOptions
from frontend.protocols.openai.errors import WrongParameter
from frontend.protocols.openai.languages import CODES

Fields = Mapping[str, Sequence[str]]
Task = Literal["transcribe", "translate"]

FILE = "file"
LISTS = ("timestamp_granularities", "include", "languages", "keywords", "known_speaker_names", "known_speaker_references")
UNKEPT = ("known_speaker_references", "known_speaker_references[]")
"""Recordings within the form, which nothing is done with yet."""
MOST_SPEAKERS = 4
NOT_YET = ("prompt", "keywords", "known_speaker_names", "known_speaker_references")
"""Accepted, and told to be without effect."""
TELLABLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Names of unknown fields that can stand in a header."""
MOST_UNKNOWN = 20
"""Of them that are named."""

ENDPOINT_MS = 500
"""Silence that ends a segment by default: nobody waits for finals, and longer segments are recognised better."""
SHORTEST_ENDPOINT_MS = 100
"""A shorter silence is also the closure of a plosive within a word."""

Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$")]
NO_LANGUAGE = "no language; send a code such as en or pt-BR, or leave it out to have it found"
AUTO, MULTI = "auto", "multi"


class ServerVad(BaseModel):
    """`chunking_strategy` as an object; the defaults are OpenAI's."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=0, le=10_000)] = 200


class TranscriptionForm(BaseModel):
    """The fields that are in effect."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Annotated[str, StringConstraints(max_length=100)] | None = None
    language: Language | None = None
    languages: Annotated[list[Language], Field(max_length=100)] = []
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = []
    include: list[Literal["logprobs"]] = []
    stream: bool = False
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    chunking_strategy: ServerVad | Literal["auto"] = "auto"
    known_speaker_names: Annotated[list[str], Field(max_length=MOST_SPEAKERS)] = []
    known_speaker_references: Annotated[list[str], Field(max_length=MOST_SPEAKERS)] = []

    @field_validator("language", mode="before")
    @classmethod
    def _language(cls, value: str) -> str:
        """Also by its English name, as Whisper takes it."""
        return CODES.get(value.lower(), value)

    @field_validator("chunking_strategy", mode="wrap")
    @classmethod
    def _chunking_strategy(cls, value: Any, _: object) -> ServerVad | Literal["auto"]:
        if value == "auto":
            return "auto"
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        if not isinstance(value, dict):
            raise ValueError('"auto" and {"type": "server_vad"} are known')
        return ServerVad.model_validate(value)


@dataclass(frozen=True)
class Wanted:
    """A request, understood. `not_in_effect` names the parameters that change nothing."""

    form: TranscriptionForm
    options: StreamOptions
    not_in_effect: tuple[str, ...]

    @property
    def logprobs(self) -> bool:
        return bool(self.form.include) and (self.form.stream or self.form.response_format == "json")

    @property
    def diarized(self) -> bool:
        return self.form.response_format == "diarized_json"


def understood(fields: Fields, task: Task) -> Wanted:
    """Raises `WrongParameter` for a value that cannot be."""
    given = _gathered(fields)
    try:
        form = TranscriptionForm.model_validate(given)
    except ValidationError as error:
        told = error.errors()[0]
        name = str(told["loc"][0])
        inner = "".join(f"[{part}]" for part in told["loc"][1:] if isinstance(part, str))
        what = NO_LANGUAGE if told["type"] == "string_pattern_mismatch" else told["msg"].lower()
        raise WrongParameter(name, f"{name}{inner}={str(told['input'])[:40]!r}: {what}") from None
    if task == "translate" and form.response_format == "diarized_json":
        raise WrongParameter("response_format", "translations have no diarized_json; take json or verbose_json")
    return Wanted(form, _options(form, task), tuple(_idle(given, form)))


def _gathered(fields: Fields) -> dict[str, Any]:
    """By plain names: `name[]` and `name[key]`, as the clients write lists and objects, and empty values left out."""
    given: dict[str, Any] = {}
    for written, values in fields.items():
        name, _, key = written.partition("[")
        key = key.rstrip("]")
        if name in LISTS:
            given[name] = [*given.get(name, ()), *(v for v in values if v or written in UNKEPT)]
        elif values[-1] == "":
            continue
        elif key:
            inner = given.get(name)
            given[name] = {**(inner if isinstance(inner, dict) else {}), key: values[-1]}
        else:
            given[name] = values[-1]
    return {name: value for name, value in given.items() if value != []}


def _options(form: TranscriptionForm, task: Task) -> StreamOptions:
    languages = [form.language] if form.language else form.languages
    options = StreamOptions(
        audio=AudioFormat("auto"),
        model=form.model,
        language=languages[0] if len(languages) == 1 else MULTI if languages else AUTO,
        task=task,
        interim_results=False,
        endpointing_ms=ENDPOINT_MS,
    )
    if isinstance(form.chunking_strategy, ServerVad):
        vad = form.chunking_strategy
        options = replace(
            options,
            vad_threshold=vad.threshold,
            pre_roll_ms=vad.prefix_padding_ms,
            endpointing_ms=max(vad.silence_duration_ms, SHORTEST_ENDPOINT_MS),
        )
    return options


def _idle(given: Mapping[str, Any], form: TranscriptionForm) -> list[str]:
    idle = {
        "temperature": form.temperature > 0,
        "languages": len(form.languages) > (0 if form.language else 1),
        "response_format": form.stream and form.response_format in ("srt", "vtt", "verbose_json"),
        "response_format=diarized_json": form.response_format == "diarized_json",
        "timestamp_granularities": bool(form.timestamp_granularities)
        and (form.stream or form.response_format != "verbose_json"),
        "include": bool(form.include) and not form.stream and form.response_format != "json",
    }
    known = {*TranscriptionForm.model_fields, *NOT_YET, FILE}
    unknown = [name for name in given if name not in known and TELLABLE.fullmatch(name)]
    return [*(n for n in NOT_YET if n in given), *(name for name, so in idle.items() if so), *unknown[:MOST_UNKNOWN]]
