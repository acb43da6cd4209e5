"""What was measured, as JSON and as a page for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontend.capacity import plots, wer
from frontend.capacity.advice import Advice, advise
from frontend.capacity.document import Block, Heading, Items, Picture, Table, Text, markdown, page
from frontend.capacity.figures import HANG_S, Quantiles, Step
from frontend.capacity.knee import knee
from frontend.capacity.saturation import Saturation, saturation, shares
from frontend.capacity.slo import FINAL_LAG_MS, WER_POINTS, streams_at_slo

PICTURE = "capacity.png"


@dataclass(frozen=True)
class Report:
    """At least one step. `conditions`: what was measured where and how, by name. `ended`: why the ramp did. `target`:
    streams wanted in all."""

    conditions: Mapping[str, str]
    steps: Sequence[Step]
    ended: str
    target: int | None = None

    @property
    def watched(self) -> bool:
        """Nobody's streams but those of the server's own clients."""
        return all(s.heard is None for s in self.steps)

    @property
    def void(self) -> bool:
        return any(s.verdict.void for s in self.steps)

    @property
    def knee(self) -> float | None:
        lags = [(s.streams, s.heard.final_lag_p95_ms) for s in self.steps if s.heard and not s.verdict.void]
        return knee([(n, max(1.0, lag)) for n, lag in lags if lag is not None])

    @property
    def full(self) -> Saturation:
        return saturation(self.steps)

    @property
    def advice(self) -> Advice | None:
        return None if self.watched else advise(self.steps, self.full, self.target)

    def as_dict(self) -> dict[str, Any]:
        return {
            "conditions": dict(self.conditions),
            "ended": self.ended,
            "void": self.void,
            "streams_at_slo": None if self.watched else streams_at_slo([(int(s.streams), s.verdict) for s in self.steps]),
            "knee": self.knee,
            "saturation": dataclasses.asdict(self.full),
            "advice": self.advice and dataclasses.asdict(self.advice),
            "steps": [{**dataclasses.asdict(s), "verdict": str(s.verdict) if s.heard else None} for s in self.steps],
        }

    def write(self, folder: Path) -> list[Path]:
        """`report.html` with everything in it, `report.md`, `report.json` and the picture; the files. Raises `OSError`."""
        picture = None
        if plots.can_draw():
            picture = Picture(PICTURE, "What was measured, step by step", plots.draw(self.steps, watched=self.watched))
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
        out: list[Block] = [Heading("VoiceForge capacity", 1), Text(self.summary()), *self._warnings()]
        if picture:
            out.append(picture)
        if not self.watched:
            out += [Heading("What the streams saw"), _streams(self.steps)]
        out += [Heading("The front end"), _fronts(self.steps), Heading("Triton"), _models(self.steps)]
        out += [Heading("What is full first"), Text(self._full_said()), Items(self.full.evidence)]
        if self.advice:
            out += [Heading("Recommendation"), *_advised(self.advice)]
        conditions = Table(["condition", "value"], [[k, v] for k, v in self.conditions.items()])
        return [*out, Heading("Conditions"), conditions, Heading("Definitions"), Items(_definitions(watched=self.watched))]

    def summary(self) -> str:
        """What came of it, in a few sentences."""
        if self.watched:
            most = max(s.streams for s in self.steps)
            return (
                f"Watched without load of its own: {most:.1f} connections in the fullest window. {self._full_said()} "
                "How late results reach clients, and streams at SLO, take a ramp."
            )
        advice, said = self.advice, "**No step met the SLO.**"
        if advice:
            said = f"**{advice.streams} streams at SLO**; plan for {advice.plan}."
            said += "" if advice.limited else " No larger step broke it: the server may carry more."
        bend = f"The final lag bends upwards at {self.knee:g} streams." if self.knee else "The final lag does not bend."
        out = f"{said} {bend} {self._full_said()} The ramp ended because {self.ended}."
        if voids := [f"{s.streams:g} streams ({s.verdict.void})" for s in self.steps if s.verdict.void]:
            out += f" **Void:** {', '.join(voids)}. Such a step says nothing about the server: measure from more cores."
        return out

    def _warnings(self) -> list[Block]:
        out: list[Block] = []
        if not self.watched and self.steps[0].streams != 1:
            out.append(
                Text(f"No stream was measured alone: word errors are compared with {self.steps[0].streams:g} streams.")
            )
        if not self.watched and not wer.can_count():
            out.append(Text("Word errors were not counted: `pip install 'voiceforge[capacity]'`."))
        if not plots.can_draw():
            out.append(Text("No picture, as there is no matplotlib: `pip install 'voiceforge[capacity]'`."))
        return out

    def _full_said(self) -> str:
        full = self.full
        if full.what:
            name = "machine, all its cores" if full.what == "machine" else full.what
            return f"Full first, at {full.at:.3g} streams: the {name}."
        fullest = next(iter(shares(self.steps[-1])), None)
        return f"Nothing was full; the fullest in the end was the {fullest}." if fullest else "Nothing tells how full it is."


def line(step: Step) -> str:
    """A step, on one line."""
    f, h = step.front, step.heard
    parts = [f"{step.streams:4.3g} streams"]
    if h:
        parts += [f"SLO {step.verdict}", f"first partial {_both(h.first_partial_ms)}", f"final lag {_both(h.final_lag_ms)}"]
    parts.append(f"engine lag {_ms(f.engine_lag_p95_ms)}")
    return "   ".join([*parts, f"front end {_number(f.cores, 2)}, Triton {_number(step.triton_cores, 2)} cores"])


def _streams(steps: Sequence[Step]) -> Table:
    head = ["streams", "SLO", "first partial p50 / p95", "final lag p50 / p95", "as the server tells it", "connect p50",
            "WER", "sentences", "missed", "early", "errors", "refused", "client late p99 / most"]  # fmt: skip
    rows: list[list[str]] = []
    for s in steps:
        if h := s.heard:
            rows.append([
                f"{s.streams:g}", str(s.verdict), _both(h.first_partial_ms), _both(h.final_lag_ms), _both(h.server_lag_ms),
                _ms(h.connect_ms["p50"]), "-" if h.wer is None else f"{h.wer:.1f} %", str(h.sentences), str(h.missed),
                str(h.early), "; ".join(sorted(set(h.errors))[:3]) or "0", _by_code(h.refusals),
                f"{h.client_lag_ms:.0f} / {h.client_lag_most_ms:.0f} ms",
            ])  # fmt: skip
    return Table(head, rows)


def _fronts(steps: Sequence[Step]) -> Table:
    head = ["streams", "connections", "engine lag p95", "final round trip p95", "VAD round trip p95", "partials a final",
            "backlog, most", "finals waiting, most", "cores", "busiest worker", "memory", "refused", "errors"]  # fmt: skip
    rows: list[list[str]] = []
    for s in steps:
        f = s.front
        rows.append([
            f"{s.streams:.3g}", f"{f.connections:g}", _ms(f.engine_lag_p95_ms), _ms(f.final_p95_ms), _ms(f.vad_p95_ms),
            _number(f.partials_per_final), f"{f.backlog_s:g} s", f"{f.finals_waiting:g}", _number(f.cores, 2),
            _number(f.busiest, 2), _mib(f.memory_mib), _by_code(f.refused), _by_code(f.errors),
        ])  # fmt: skip
    return Table(head, rows)


def _models(steps: Sequence[Step]) -> Table:
    head = ["streams", "model", "part", "requests/s", "mean batch", "queue", "compute", "pending, most", "busy", "cores",
            "memory"]  # fmt: skip
    rows: list[list[str]] = []
    for s in steps:
        for m in s.models:
            rows.append([
                f"{s.streams:.3g}", m.model, m.part, f"{m.requests_s:g}", _number(m.batch, 2), _ms(m.queue_ms),
                _ms(m.compute_ms), f"{m.pending:g}", "-" if m.busy is None else f"{100 * m.busy:.0f} %",
                _number(m.cores, 2), _mib(m.memory_mib),
            ])  # fmt: skip
        total = [_number(s.triton_cores, 2), _mib(s.triton_memory_mib)]
        rows.append([f"{s.streams:.3g}", "all, with tritonserver", *[""] * 7, *total])
    return Table(head, rows)


def _advised(advice: Advice) -> list[Block]:
    most = "as it is: the ramp did not find the end"
    if advice.max_connections:
        most = f"{advice.max_connections}, where clients speak as much as these did"
    rows = [
        ["streams to plan for a server", f"{advice.plan}{'' if advice.limited else ' at least'}"],
        ["front-end workers, `VOICEFORGE_WORKERS`", str(advice.workers)],
        ["Tritons", advice.tritons],
        ["`VOICEFORGE_MAX_CONNECTIONS`", most],
        ["`VOICEFORGE_ADMIT_LAG_S`", f"{advice.admit_lag_s:g}"],
    ]
    alarms = [[name, f"`{expression}`"] for name, expression in advice.alarms]
    return [Table(["setting", "value"], rows), Items(advice.reasons), Table(["alarm", "expression"], alarms)]


def _definitions(*, watched: bool) -> list[str]:
    servers = [
        "Queue and compute: Triton's means of a request. The decoder's end when a window is encoded; what its rows then "
        "wait for and take is in the final's round trip.",
        "Busy: the share of the time in which each instance of a model worked, or waited for a core to work on.",
        "Cores of the front end are those of its own processes; decoders of coded audio are not in them.",
    ]
    if watched:
        return servers
    return [
        "First partial: from the moment at which the first sample of speech was sent to the first partial. Final lag: from "
        f"the moment at which the last one was sent to the final, less the {1000 * HANG_S:.0f} ms of silence that end an "
        "utterance.",
        f"SLO: p95 of the final lag below {FINAL_LAG_MS:.0f} ms, no error, nobody refused, word errors no more than "
        f"{WER_POINTS} points above those of one stream (or two words, where that is more). A missed sentence is late "
        "without end.",
        *servers,
    ]


def _both(q: Quantiles) -> str:
    return f"{_ms(q['p50'])} / {_ms(q['p95'])}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} MiB"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {code}" for code, n in counts.items()) or "0"
