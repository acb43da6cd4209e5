"""Where a curve that should be flat bends upwards. Pure.

Satopää et al., Finding a "Kneedle" in a Haystack (2011), for a few points that are far apart: of the lower hull of the
curve, the point furthest below the chord from its first point to its last, both axes scaled to one. The hull keeps one noisy
point from being the knee.
"""

from __future__ import annotations

from collections.abc import Sequence

DEPTH = 0.15
"""Of the chord's height: what is less bent is taken for straight."""
RISE = 1.5
"""A curve that ends below so many times its beginning has not bent."""

Point = tuple[float, float]


def knee(points: Sequence[Point]) -> float | None:
    """The x after which y rises; None where it does not, or where fewer than three points were measured.

    y are positive; x need not be sorted, of one x the largest y counts.
    """
    highest: dict[float, float] = {}
    for x, y in points:
        highest[x] = max(y, highest.get(x, y))
    hull = _lower_hull(sorted(highest.items()))
    if len(hull) < 3 or hull[-1][1] < RISE * hull[0][1]:
        return None
    (x0, y0), (x1, y1) = hull[0], hull[-1]
    depth, found = max(((x - x0) / (x1 - x0) - (y - y0) / (y1 - y0), x) for x, y in hull)
    return found if depth >= DEPTH else None


def _lower_hull(points: Sequence[Point]) -> list[Point]:
    """Andrew's monotone chain; `points` in the order of x, no two of one x."""
    hull: list[Point] = []
    for point in points:
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
