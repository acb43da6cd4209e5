"""What tunes the policy of a stream, with units, defaults and reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frontend.speech.stabilizer import StabilizerSettings
from frontend.speech.vad_gate import FRAME, VadSettings

RATE = 16_000


@dataclass(frozen=True)
class SessionSettings:
    """Samples, unless named otherwise."""

    vad: VadSettings = field(default_factory=VadSettings)
    stable: StabilizerSettings = field(default_factory=StabilizerSettings)
    vad_enabled: bool = True
    interim_results: bool = True
    speculate: bool = True
    """Decode the final as soon as the silence after speech is as long as the segment's tail, publish it at the endpoint."""
    first_partial: int = 2_560
    """Speech heard before the first partial: 160 ms, about a syllable; less is guessing."""
    partial_interval: int = 15 * FRAME
    """480 ms: five requests to the VAD (`vad_chunk`), whose answers are when a partial can be asked for."""
    patience: float = 2.0
    """The interval is at least so many times what the last partials took to come: they give way when the engine is busy."""
    max_segment: int = 11 * RATE
    """Where speech without a pause is cut at the latest; one second below what the model's window holds."""
    split_after: int = 4 * RATE
    """In a segment longer than this a pause no longer than the tail is enough to part it, when speech goes on behind it:
    its final is there already, and short windows are cheaper and no worse."""
    vad_chunk: int = 3 * FRAME
    """Frames collected before a VAD request while nothing is about to change: fewer requests, 96 ms of delay at most."""
    utterance_end: int | None = None
    """Silence after the last word that is told as `UtteranceEnded`; it ends a segment too."""
    find_language: Literal["never", "once", "each"] = "never"
    """Whether the streams' language is to be found, once or for each utterance."""
    language_from: int = RATE
    """A language found in less audio than this is not relied on."""
    context_tokens: int = 100
    """Of what was said before a cut, told to the model as its prompt."""
