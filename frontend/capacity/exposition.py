"""Prometheus expositions, read once, and what changed from one to the next. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
"""Sorted by name."""


@dataclass(frozen=True)
class Exposition:
    """Samples by name and labels, as they were `at` a time in seconds.

    The parser gives every counter a name that ends in `_total`; those that the server names otherwise, as Triton does, are
    found by either.
    """

    at: float = 0.0
    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict[str, Mapping[Labels, float]])

    def __contains__(self, name: str) -> bool:
        return bool(self._named(name))

    def _named(self, name: str) -> Mapping[Labels, float]:
        return self.samples.get(name) or self.samples.get(f"{name}_total", {})

    def of(self, name: str, **match: str) -> dict[Labels, float]:
        """The samples of a name that have these labels; none if nobody tells it."""
        wanted = set(match.items())
        return {labels: v for labels, v in self._named(name).items() if wanted <= set(labels)}

    def total(self, name: str, **match: str) -> float:
        return math.fsum(self.of(name, **match).values())

    def most(self, name: str, **match: str) -> float | None:
        """The largest sample; None if there is none."""
        return max(self.of(name, **match).values(), default=None)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums of the samples that have the label, by its value."""
        out: dict[str, float] = {}
        for labels, value in self.of(name).items():
            if (key := dict(labels).get(label)) is not None:
                out[key] = out.get(key, 0.0) + value
        return out

    def most_by(self, name: str, label: str) -> dict[str, float]:
        """The largest sample for each value of the label."""
        out: dict[str, float] = {}
        for labels, value in self.of(name).items():
            if (key := dict(labels).get(label)) is not None:
                out[key] = max(value, out.get(key, value))
        return out

    def since(self, before: Exposition) -> Exposition:
        """What counters have counted since; one that is below what it was began anew, from zero."""
        changed: dict[str, Mapping[Labels, float]] = {}
        for name, samples in self.samples.items():
            old = before.samples.get(name, {})
            changed[name] = {k: v - old.get(k, 0.0) if v >= old.get(k, 0.0) else v for k, v in samples.items()}
        return Exposition(self.at, changed)

    def quantile(self, histogram: str, q: float) -> float | None:
        """Of a histogram, as PromQL's `histogram_quantile` has it: linear within a bucket, the last bound above all."""
        buckets = sorted((float(le), n) for le, n in self.by(f"{histogram}_bucket", "le").items())
        if not buckets or buckets[-1][1] <= 0:
            return None
        rank, below, counted = q * buckets[-1][1], 0.0, 0.0
        for bound, n in buckets:
            if n >= rank and n > counted:
                return below if math.isinf(bound) else below + (bound - below) * (rank - counted) / (n - counted)
            below, counted = bound, n
        return below


def parse(text: str, at: float = 0.0) -> Exposition:
    """Raises `ValueError` when it is no exposition."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return Exposition(at, samples)


def together(parts: Mapping[str, Exposition]) -> Exposition:
    """Several servers' as one: every sample gets the label `server`. At the time of the first."""
    samples: dict[str, dict[Labels, float]] = {}
    for server, part in parts.items():
        for name, found in part.samples.items():
            for labels, value in found.items():
                samples.setdefault(name, {})[tuple(sorted([*labels, ("server", server)]))] = value
    return Exposition(min((p.at for p in parts.values()), default=0.0), samples)
