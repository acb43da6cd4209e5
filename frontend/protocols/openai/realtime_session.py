"""The session object of OpenAI's Realtime transcription: what it may hold, in its two forms, and what of it is in effect.

Kept in the form of the general interface, `{audio: {input: {…}}, include}`. The beta's flat form, `{input_audio_format, …}`,
is the same under other names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from frontend.audio.format import AudioFormat
from frontend.protocols.base import Body, StreamOptions
from frontend.protocols.openai.errors import WrongParameter

LOGPROBS = "item.input_audio_transcription.logprobs"
MOST_NAMED = 50
"""Settings named as not in effect; each up to `LONGEST_NAME` characters."""
LONGEST_NAME = 100

ENCODINGS = {"audio/pcm": ("linear16", 24_000), "audio/pcmu": ("mulaw", 8_000), "audio/pcma": ("alaw", 8_000)}
FLAT_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
FLAT = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
"""The beta's names for what is in `audio.input`."""

Text = Annotated[str, StringConstraints(max_length=10_000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Format(_Part):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None
    """OpenAI knows 24000 for PCM only."""


class Transcription(_Part):
    model: Name | None = None
    language: Annotated[str, StringConstraints(pattern=r"^([A-Za-z]{2,3}([-_][A-Za-z]{2,4})?)?$")] | None = None
    languages: Annotated[list[Name], Field(max_length=100)] | None = None
    prompt: Text | None = None
    keywords: Annotated[list[Name], Field(max_length=1000)] | None = None
    delay: Name | None = None


class TurnDetection(_Part):
    """Defaults are OpenAI's, and ours."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5_000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=10, le=10_000)] = 500
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    idle_timeout_ms: int | None = None


class NoiseReduction(_Part):
    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class Input(_Part):
    format: Format = Format()
    transcription: Transcription | None = Transcription()
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = TurnDetection()


class _Audio(_Part):
    input: Input = Input()


class _Session(_Part):
    type: Literal["transcription"] = "transcription"
    audio: _Audio = _Audio()
    include: Annotated[list[Name], Field(max_length=20)] | None = None


@dataclass(frozen=True)
class SessionConfig:
    """What a client has asked for so far. `unknown`: names in its last update that are no settings of a transcription."""

    session: _Session = field(default_factory=_Session)
    query_model: str | None = None
    unknown: tuple[str, ...] = ()

    @property
    def input(self) -> Input:
        return self.session.audio.input

    @property
    def logprobs(self) -> bool:
        return LOGPROBS in (self.session.include or ())

    @property
    def manual(self) -> bool:
        """Turns end where the client commits."""
        return self.input.turn_detection is None

    @property
    def options(self) -> StreamOptions:
        """Raises `InvalidAudio`. Without server turns the VAD still keeps the model away from silence, where it invents
        words, and parts long speech at its pauses; only what an item is does not depend on it."""
        wanted = self.input.transcription or Transcription()
        turns = self.input.turn_detection or TurnDetection()
        if turns.type == "semantic_vad":
            turns = TurnDetection()
        encoding, rate = ENCODINGS[self.input.format.type]
        given = self.input.format.rate
        return StreamOptions(
            audio=AudioFormat(encoding, rate if given is None else given),
            model=wanted.model or self.query_model,
            language=_language(wanted),
            vad_threshold=turns.threshold,
            pre_roll_ms=turns.prefix_padding_ms,
            endpointing_ms=turns.silence_duration_ms,
            must_send=False,
        )

    def not_in_effect(self, *, flat: bool) -> list[str]:
        """Settings given that change nothing, by the names of the client's form."""
        names = [f"audio.input.{name}" for name in _idle(self.input)]
        names += [f"include.{name}" for name in self.session.include or () if name != LOGPROBS]
        return [*(map(flat_name, names) if flat else names), *self.unknown][:MOST_NAMED]

    def told(self, session_id: str, model: str, limits: Mapping[str, float], *, flat: bool) -> Body:
        """The session object with what is in effect."""
        options, wanted, noise = self.options, self.input.transcription or Transcription(), self.input.noise_reduction
        transcription: Body = {
            "model": options.model or model,
            "language": wanted.language or None,
            "prompt": wanted.prompt or "",
        }
        turns: Body | None = {
            "type": "server_vad",
            "threshold": options.vad_threshold,
            "prefix_padding_ms": options.pre_roll_ms,
            "silence_duration_ms": options.endpointing_ms,
        }
        audio_input: Body = {
            "format": {"type": self.input.format.type},
            "transcription": transcription,
            "noise_reduction": noise.model_dump(exclude_none=True) if noise else None,
            "turn_detection": None if self.manual else turns,
        }
        if options.audio.encoding == "linear16" or self.input.format.rate is not None:
            audio_input["format"]["rate"] = options.audio.sample_rate
        ours = {"model": model, "not_in_effect": self.not_in_effect(flat=flat), "limits": dict(limits)}
        head: Body = {"id": session_id, "object": "realtime.transcription_session"}
        tail: Body = {"include": self.session.include, "voiceforge": ours}
        if not flat:
            return {**head, "type": "transcription", "audio": {"input": audio_input}, **tail}
        names = {new: old for old, new in FLAT_FORMATS.items()}
        audio_input["format"] = names[self.input.format.type]
        return {**head, **{old: audio_input[new] for old, new in FLAT.items()}, "client_secret": None, **tail}

    def updated(self, changes: object) -> SessionConfig:
        """With the settings of a client's `session` object, in either form. Raises `WrongParameter` or `InvalidAudio`."""
        if not isinstance(changes, dict):
            raise WrongParameter("session", "session is to be an object with the settings to change")
        # Lone surrogates, which JSON may carry and UTF-8 may not, are told back to the client.
        given: dict[str, Any] = json.loads(json.dumps(changes, ensure_ascii=False).encode(errors="replace"))
        flat = not FLAT.keys().isdisjoint(given)
        unknown = list(_unknown(_Session, given, passed=set(FLAT) if flat else set()))
        if flat:
            given = _nested(given)
        try:
            session = _Session.model_validate(_merged(self.session.model_dump(exclude_unset=True), given))
        except ValidationError as error:
            raise _explained(error, flat=flat) from None
        config = SessionConfig(session, self.query_model, tuple(unknown[:MOST_NAMED]))
        _ = config.options  # raises what is wrong with the audio format
        return config


def _language(wanted: Transcription) -> str:
    """Without a language it is found for each utterance: OpenAI transcribes each item for itself."""
    one = wanted.languages[0] if wanted.languages and len(wanted.languages) == 1 else None
    return wanted.language or one or "multi"


def _idle(given: Input) -> Iterator[str]:
    """Below `audio.input`."""
    t, turns = given.transcription, given.turn_detection
    if t is None:
        yield "transcription"
    else:
        yield from (f"transcription.{name}" for name in ("prompt", "keywords", "delay") if getattr(t, name))
        if t.languages and (t.language or len(t.languages) > 1):
            yield "transcription.languages"
    if given.noise_reduction:
        yield "noise_reduction"
    if turns:
        if turns.type == "semantic_vad":
            yield "turn_detection.type"
        idle = ("eagerness", "create_response", "interrupt_response", "idle_timeout_ms")
        yield from (f"turn_detection.{name}" for name in idle if getattr(turns, name))


def _nested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The beta's form in the other's. Raises `WrongParameter` for a format that is none."""
    audio_input = {new: given[old] for old, new in FLAT.items() if old in given}
    if "format" in audio_input:
        name = audio_input["format"]
        if not isinstance(name, str) or name not in FLAT_FORMATS:
            known = ", ".join(FLAT_FORMATS)
            raise WrongParameter("session.input_audio_format", f"there is no format {str(name)[:40]!r}; send {known}")
        audio_input["format"] = {"type": FLAT_FORMATS[name]}
    return {k: v for k, v in given.items() if k not in FLAT} | {"audio": {"input": audio_input}}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Only what is named changes; a format, and what is of another `type`, is replaced as a whole."""
    out = dict(old)
    for name, value in new.items():
        before: Any = out.get(name)
        merges = isinstance(before, dict) and isinstance(value, dict) and name != "format"
        alike = merges and value.get("type", before.get("type")) == before.get("type")
        out[name] = _merged(before, value) if alike else value
    return out


def _unknown(model: type[BaseModel], given: Mapping[str, Any], at: str = "", *, passed: Iterable[str] = ()) -> Iterator[str]:
    """Names that the model does not have, nor one within it; those `passed` are others' names for known ones."""
    for name, value in given.items():
        field, path = model.model_fields.get(name), f"{at}{name}"[:LONGEST_NAME]
        inner = _MODELS.get(name) if field or name in passed else None
        if not field and name not in passed:
            yield path
        elif inner and isinstance(value, dict):
            yield from _unknown(inner, value, f"{path}.")


_MODELS: dict[str, type[BaseModel]] = {
    "audio": _Audio, "input": Input, "format": Format, "transcription": Transcription, "turn_detection": TurnDetection,
    "noise_reduction": NoiseReduction, "input_audio_transcription": Transcription,
    "input_audio_noise_reduction": NoiseReduction,
}  # fmt: skip
"""The objects within a session, by their names in either form."""


def flat_name(name: str) -> str:
    """The beta's name of what is below `audio.input`; others are the same."""
    inner = name.removeprefix("audio.input.")
    first, dot, rest = inner.partition(".")
    old = next((old for old, new in FLAT.items() if new == first), None)
    return f"{old}{dot}{rest}" if inner != name and old else name


def _explained(error: ValidationError, *, flat: bool) -> WrongParameter:
    """The first of what is wrong."""
    first = error.errors()[0]
    path = ".".join(str(part)[:40] for part in first["loc"])
    if path == "type":
        return WrongParameter("session.type", 'this server transcribes only; send session.type "transcription"')
    param = f"session.{flat_name(path) if flat else path}"
    return WrongParameter(param, f"{param}: {first['msg'][0].lower()}{first['msg'][1:]}")
