"""From what a client wants to a running session: the one place where options become the engine's settings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from frontend.control.load import EngineLoad
from frontend.errors import UnknownModel
from frontend.inference.base import AsrStream, Engine
from frontend.observability.metrics import Metrics
from frontend.protocols.base import StreamOptions
from frontend.server.decoders import Decoders
from frontend.server.live import LiveSession
from frontend.server.web import Web, anywhere
from frontend.settings import Settings
from frontend.speech.events import Event
from frontend.speech.settings import RATE, SessionSettings
from frontend.speech.stabilizer import StabilizerSettings
from frontend.speech.vad_gate import VadSettings

MARGIN_S = 1
"""A segment is cut this much before the model's window is full."""

RECORDED_BACKLOG_S = 4
"""A recording is read no further ahead of the engine, so that it can give way to live speech."""

FINDING: dict[str, Literal["once", "each"]] = {"auto": "once", "multi": "each"}
"""Languages that are none, and how often the language is then found."""


@dataclass(frozen=True)
class Services:
    """What every session shares."""

    engine: Engine
    metrics: Metrics
    settings: Settings
    default_model: str

    @cached_property
    def decoders(self) -> Decoders:
        return Decoders(patience_s=self.settings.decoder_patience_s, memory_bytes=self.settings.decoder_memory_mb * 2**20)

    @cached_property
    def load(self) -> EngineLoad:
        return EngineLoad(time.monotonic, self.settings.admit_lag_s, self.settings.admit_partial_wait_s)

    @cached_property
    def web(self) -> Web:
        return Web(anywhere) if self.settings.allow_private_urls else Web()


def model_of(services: Services, options: StreamOptions) -> str:
    """The model that is asked for, by its own name or an alias; a name that is neither stays, and is then refused."""
    asked = options.model or services.default_model
    try:
        return services.engine.model(asked).name
    except UnknownModel:
        pass
    aliases = services.settings.model_aliases.items()
    return next((ours or services.default_model for pattern, ours in aliases if fnmatchcase(asked, pattern)), asked)


def max_segment_s(services: Services, options: StreamOptions) -> int:
    """Where speech without a pause is cut at the latest, in seconds. Raises `UnknownModel`."""
    return int(services.engine.model(model_of(services, options)).window_s) - MARGIN_S


def asr_stream(services: Services, options: StreamOptions) -> AsrStream:
    """Raises `UnknownModel`, `UnknownLanguage` or `UnsupportedTask`."""
    language = "auto" if options.language in FINDING else options.language
    model = model_of(services, options)
    return services.engine.asr_stream(model, language, task=options.task, alternatives=options.alternatives)


def ms(milliseconds: int) -> int:
    """In samples."""
    return milliseconds * RATE // 1000


def session_settings(services: Services, options: StreamOptions) -> SessionSettings:
    vad = replace(VadSettings(), endpoint=ms(options.endpointing_ms))
    if options.vad_threshold is not None:
        vad = replace(vad, enter=options.vad_threshold, leave=max(0.01, options.vad_threshold - 0.15))
    if options.pre_roll_ms is not None:
        vad = replace(vad, pre_roll=ms(options.pre_roll_ms))
    return SessionSettings(
        vad=vad,
        vad_enabled=options.vad_enabled,
        interim_results=options.interim_results,
        stable=replace(StabilizerSettings(), policy=options.stability),
        find_language=FINDING.get(options.language, "never"),
        utterance_end=ms(options.utterance_end_ms) if options.utterance_end_ms else None,
        max_segment=max_segment_s(services, options) * RATE,
    )


def open_session(
    services: Services, options: StreamOptions, emit: Callable[[Event], object], *, live: bool = True
) -> LiveSession:
    """A session that tells `emit` its events, in order; to be entered as a context. Raises `UnknownModel`.

    `live`: somebody waits for each final, so its lag counts when new sessions are admitted.
    """
    load = services.load if live else EngineLoad(time.monotonic, math.inf)
    max_backlog_s = services.settings.max_backlog_s
    return LiveSession(
        session_settings(services, options), services.engine.vad_stream(), asr_stream(services, options), services.metrics,
        load, emit, max_backlog_s=max_backlog_s if live else min(max_backlog_s, RECORDED_BACKLOG_S),
    )  # fmt: skip
