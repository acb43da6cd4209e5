"""The figures of steps as tables and lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from frontend.capacity.advice import Advice
from frontend.capacity.document import Table
from frontend.capacity.heard import Quantiles
from frontend.capacity.saturation import shares
from frontend.capacity.step import Step

HEADER = "streams  final lag p50 / p95  first partial p50 / p95      WER  engine lag  cores: front end, Triton  SLO; fullest"


def line(step: Step) -> str:
    """A step, below `HEADER`."""
    f, h = step.front, step.heard
    cores = f"{_number(f.cores, 2)}, {_number(step.triton.cores, 2)}"
    return (
        f"{step.streams:7}  {_both(h.final_lag_ms):>19}  {_both(h.first_partial_ms):>23}  {_percent(h.wer):>7}  "
        f"{_ms(f.engine_lag_p95_ms):>10}  {cores:>24}  {step.verdict}; {shares(step)[0]}"
    )


def streams(steps: Sequence[Step]) -> Table:
    head = ["streams", "SLO", "first partial p50 / p95", "final lag p50 / p95", "as the server tells it", "connect p50",
            "WER", "sentences", "missed", "early", "errors", "refused", "client late"]  # fmt: skip
    rows: list[list[str]] = []
    for s in steps:
        h = s.heard
        rows.append([
            str(s.streams), str(s.verdict), _both(h.first_partial_ms), _both(h.final_lag_ms), _both(h.server_lag_ms),
            _ms(h.connect_ms["p50"]), _percent(h.wer), str(h.sentences), str(h.missed),
            str(h.early), "; ".join(sorted(set(h.errors))[:3]) or "0", _by_code(h.refusals), _ms(h.client_lag_ms),
        ])  # fmt: skip
    return Table(head, rows)


def fronts(steps: Sequence[Step]) -> Table:
    head = ["streams", "connections", "engine lag p95", "final round trip p95", "VAD round trip p95", "partials a final",
            "backlog, most", "finals waiting, most", "cores", "busiest worker", "memory", "refused", "errors"]  # fmt: skip
    rows: list[list[str]] = []
    for s in steps:
        f = s.front
        rows.append([
            str(s.streams), f"{f.connections:g}", _ms(f.engine_lag_p95_ms), _ms(f.final_p95_ms), _ms(f.vad_p95_ms),
            _number(f.partials_per_final), f"{f.backlog_s:g} s", f"{f.finals_waiting:g}", _number(f.cores, 2),
            _number(f.busiest, 2), _mib(f.memory_mib), _by_code(f.refused), _by_code(f.errors),
        ])  # fmt: skip
    return Table(head, rows)


def models(steps: Sequence[Step]) -> Table:
    head = ["streams", "model", "part", "requests/s", "mean batch", "queue", "compute", "pending, most", "busy", "cores",
            "memory"]  # fmt: skip
    rows: list[list[str]] = []
    for s in steps:
        for m in s.triton.models:
            rows.append([
                str(s.streams), m.model, m.part, f"{m.requests_s:g}",
                _number(m.batch, 2) + (f" of {m.slots}" if m.slots and m.batch else ""), _ms(m.queue_ms), _ms(m.compute_ms),
                f"{m.pending:g}", "-" if m.busy is None else f"{100 * m.busy:.0f} %", _number(m.cores, 2),
                _mib(m.memory_mib),
            ])  # fmt: skip
        total = [_number(s.triton.cores, 2), _mib(s.triton.memory_mib)]
        rows.append([str(s.streams), "all, with tritonserver", *[""] * 7, *total])
    return Table(head, rows)


def settings(advice: Advice) -> Table:
    most = "as it is: the ramp did not find the end"
    if advice.max_connections:
        most = f"{advice.max_connections}, where clients speak as much as these did"
    rows = [
        ["streams to plan for a server", f"{advice.plan}{'' if advice.limited else ' at least'}"],
        ["servers, for the streams wanted in all", str(advice.servers or "- (give --target)")],
        ["instances of Triton and its models", advice.instances],
        ["`VOICEFORGE_WORKERS`", f"{advice.workers}, for {advice.streams} streams"],
        ["`VOICEFORGE_MAX_CONNECTIONS`", most],
        ["`VOICEFORGE_ADMIT_LAG_S`", f"{advice.admit_lag_s:g}"],
    ]
    return Table(["setting", "value"], rows)


def alarms(advice: Advice) -> Table:
    return Table(["alarm", "expression"], [[name, f"`{expression}`"] for name, expression in advice.alarms])


def _both(q: Quantiles) -> str:
    return f"{_ms(q['p50'])} / {_ms(q['p95'])}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} MiB"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {code}" for code, n in counts.items()) or "0"
