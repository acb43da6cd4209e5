"""What was measured, as JSON and as a page for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from frontend.capacity import plots, tables, wer
from frontend.capacity.advice import Advice, advise
from frontend.capacity.document import Block, Heading, Items, Picture, Table, Text, markdown, page
from frontend.capacity.heard import HANG_S
from frontend.capacity.knee import knee
from frontend.capacity.saturation import Saturation, counted, crowded, saturation, shares
from frontend.capacity.slo import CLIENT_LAG_MS, FINAL_LAG_MS, WER_POINTS, streams_at_slo
from frontend.capacity.step import Step

PICTURE = "capacity.png"


@dataclass(frozen=True)
class Report:
    """At least one step. `conditions`: what was measured where and how, by name. `ended`: the ramp ended because of it.
    `target`: streams wanted in all."""

    conditions: Mapping[str, str]
    steps: Sequence[Step]
    ended: str
    target: int | None = None

    @property
    def void(self) -> bool:
        return any(s.verdict.void for s in self.steps)

    @property
    def streams_at_slo(self) -> int:
        return streams_at_slo([(s.streams, s.verdict) for s in self.steps])

    @cached_property
    def knee(self) -> int | None:
        lags = [(s.streams, s.heard.final_lag_p95_ms) for s in self.steps if not s.verdict.void]
        found = knee([(n, max(1.0, lag)) for n, lag in lags if lag is not None])
        return None if found is None else round(found)

    @cached_property
    def full(self) -> Saturation:
        return saturation(self.steps)

    @cached_property
    def advice(self) -> Advice | None:
        return advise(self.steps, self.full, self.target)

    def as_dict(self) -> dict[str, Any]:
        return {
            "conditions": dict(self.conditions),
            "ended": self.ended,
            "void": self.void,
            "streams_at_slo": self.streams_at_slo,
            "knee": self.knee,
            "saturation": dataclasses.asdict(self.full),
            "advice": self.advice and dataclasses.asdict(self.advice),
            "steps": [{**dataclasses.asdict(s), "verdict": str(s.verdict)} for s in self.steps],
        }

    def write(self, folder: Path) -> list[Path]:
        """`report.html` with everything in it, `report.md`, `report.json` and the picture; the files. Raises `OSError`."""
        picture = None
        if plots.can_draw():
            picture = Picture(PICTURE, "What was measured, step by step", plots.draw(self.steps, self.knee))
        blocks = self.blocks(picture)
        files = {
            "report.html": page("VoiceForge capacity", blocks).encode(),
            "report.md": markdown(blocks).encode(),
            "report.json": (json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n").encode(),
        }
        if picture:
            files[PICTURE] = picture.png
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return [folder / name for name in files]

    def blocks(self, picture: Picture | None) -> list[Block]:
        out: list[Block] = [Heading("VoiceForge capacity", 1), Text(self.summary()), *map(Text, self.warnings())]
        if picture:
            out.append(picture)
        if self.advice:
            out += [Heading("What to set"), tables.settings(self.advice), Items(self.advice.reasons)]
            out += [Heading("What to be told of"), tables.alarms(self.advice)]
        out += [Heading("What is full first"), Text(self._full_said()), Items(self.full.evidence)]
        out += [Heading("What the streams saw"), tables.streams(self.steps)]
        out += [Heading("The front end"), tables.fronts(self.steps), Heading("Triton"), tables.models(self.steps)]
        conditions = Table(["condition", "value"], [[k, v] for k, v in self.conditions.items()])
        return [*out, Heading("Conditions"), conditions, Heading("Definitions"), Items(DEFINITIONS)]

    def summary(self) -> str:
        """What came of it, in a few sentences."""
        advice, said = self.advice, "**No step met the SLO.**"
        if advice:
            said = f"**{counted(advice.streams)} at SLO**; plan for {advice.plan}. {self._beyond(advice.streams)}"
        bend = f"The final lag bends upwards at {self.knee} streams." if self.knee else "The final lag does not bend."
        return f"{said} {bend} {self._full_said()} The ramp ended because {self.ended}."

    def _beyond(self, most: int) -> str:
        """Of the first step that did not meet the SLO."""
        if more := [s for s in self.steps if s.streams > most]:
            return f"With {more[0].streams}: {more[0].verdict}."
        return "No larger step was tried: the server may carry more."

    def warnings(self) -> list[str]:
        """What a reader should know before believing any of it."""
        out: list[str] = []
        if voids := [f"{counted(s.streams)} ({s.verdict.void})" for s in self.steps if s.verdict.void]:
            out.append(f"**Void:** {', '.join(voids)}. Such a step says nothing of the server: measure from other cores.")
        if busy := [f"{s.others_cores:.1f} cores at {counted(s.streams)}" for s in self.steps if crowded(s)]:
            out.append(f"**Other programs** used {', '.join(busy)}: measure on a machine that does nothing else.")
        if self.steps[0].streams != 1:
            out.append(f"No stream was measured alone: word errors are compared with {self.steps[0].streams} streams.")
        if not wer.can_count():
            out.append("Word errors were not counted: `pip install jiwer whisper-normalizer`.")
        if not plots.can_draw():
            out.append("There is no picture: `pip install matplotlib`.")
        return out

    def _full_said(self) -> str:
        return str(self.full) if self.full.what else f"Nothing was full; the fullest was the {shares(self.steps[-1])[0]}."


DEFINITIONS = [
    "First partial: from the moment at which the first sample of speech was sent to the first partial. Final lag: from the "
    f"moment at which the last one was sent to the final, less the {1000 * HANG_S:.0f} ms of silence that end an utterance. "
    "A sample counts as sent when its 100 ms chunk was due.",
    f"SLO: p95 of the final lag below {FINAL_LAG_MS:.0f} ms, no error, nobody refused, word errors no more than "
    f"{WER_POINTS} points above those of one stream (or two words, where that is more). A missed sentence is never in time.",
    f"Void: this command itself sent a chunk more than {CLIENT_LAG_MS:.0f} ms late.",
    "Figures of the servers are of the time in which all streams spoke; round trips, partials, refusals and errors of the "
    "whole step.",
    "Queue and compute: Triton's means of a request. The decoder's end when a window is encoded; what its rows then wait "
    "for and take is in the final's round trip.",
    "Busy: the share of the time in which each instance of a model worked, or waited for a core to work on.",
    "Cores of the front end are those of its own processes; decoders of coded audio are not in them.",
]
