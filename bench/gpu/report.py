"""The results as lines of text."""

from __future__ import annotations

from bench.gpu.plan import streams_at_slo
from bench.gpu.results import Results
from bench.streaming import HEADER, line


def lines(results: Results) -> list[str]:
    out = [", ".join(f"{k} {v}" for k, v in results.content["conditions"].items()), ""]
    for part, rows in results.content["parts"].items():
        out.append(f"{part}:")
        streaming = part.startswith(("streams ", "tuning "))
        out += [f"  {'':14} {HEADER}"] if streaming else []
        for key, row in rows.items():
            if "failed" in row:
                out.append(f"  {key}: {row['failed']}")
            elif streaming:
                gpu = f"   GPU {row['gpu']['gpu_percent']:.0f} %" if row.get("gpu") else ""
                out.append(f"  {key:14} {line(row)}{gpu}   {row.get('verdict', '')}")
            else:
                told = {k: v for k, v in row.items() if k != "text"}
                out.append(f"  {key:45} " + "  ".join(f"{k} {v}" for k, v in told.items()))
        if part.startswith("streams "):
            kept = streams_at_slo([r for k, r in rows.items() if k.isdigit()])
            out.append(f"  streams at SLO: {kept or 'none of the numbers tried'}")
        out.append("")
    return out
