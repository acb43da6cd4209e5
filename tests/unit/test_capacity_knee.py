"""Where a curve of lags bends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frontend.capacity.knee import knee


def test_a_queue_that_fills_bends_where_it_begins_to():
    assert knee([(1, 217), (20, 120), (40, 416), (60, 2861)]) == 40
    assert knee([(1, 60), (10, 62), (20, 70), (40, 90), (60, 900), (80, 2500)]) == 40


def test_flat_straight_and_falling_curves_do_not_bend():
    assert knee([(1, 100), (10, 104), (20, 99), (40, 110)]) is None
    assert knee([(0, 1), (10, 11), (20, 21), (30, 31)]) is None
    assert knee([(1, 300), (10, 200), (20, 100)]) is None


def test_too_few_points_tell_nothing():
    assert knee([]) is None
    assert knee([(1, 10)]) is None
    assert knee([(1, 10), (60, 9000)]) is None
    assert knee([(1, 10), (1, 12), (1, 900)]) is None


def test_a_single_late_step_is_no_knee():
    assert knee([(1, 100), (10, 400), (20, 105), (40, 110), (60, 1500)]) == 40


POINTS = st.lists(st.tuples(st.integers(1, 500), st.floats(1, 1e5)), max_size=12)


@given(POINTS)
def test_a_knee_is_a_measured_step_but_not_the_last(points: list[tuple[int, float]]):
    found = knee(points)
    assert found is None or found in {x for x, _ in points} - {max(x for x, _ in points)}


@given(POINTS, st.floats(0.1, 10))
def test_units_do_not_move_it(points: list[tuple[int, float]], factor: float):
    assert knee([(x, 2 ** round(factor) * y) for x, y in points]) == knee(points)
