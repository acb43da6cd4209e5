"""Places for partials: who gets one, and how many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.control.partials import LATE_S, PERIOD_S, PartialPlaces


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def two(clock: Clock) -> PartialPlaces:
    return PartialPlaces(clock, limit=2)


class Calls(list[str]):
    """`calls.of(name)` is a callback that notes its name; equal for equal names, as a bound method is."""

    def __init__(self) -> None:
        self._made: dict[str, Callable[[], object]] = {}

    def of(self, name: str) -> Callable[[], object]:
        return self._made.setdefault(name, lambda: self.append(name))


def test_there_are_so_many_places_and_who_waits_longest_comes_next(two: PartialPlaces):
    calls = Calls()
    assert [two.take(calls.of(n), first=False) for n in "abcd"] == [True, True, False, False]
    assert not two.take(calls.of("c"), first=False), "asking again"
    two.leave()
    assert calls == ["c"]
    two.leave()
    assert calls == ["c", "d"]
    assert two.taken == 2


def test_nobody_overtakes_who_waits_unless_it_is_the_first_of_an_utterance(two: PartialPlaces):
    calls = Calls()
    for name in "abc":
        two.take(calls.of(name), first=False)
    two.take(calls.of("d"), first=False)
    two.take(calls.of("e"), first=True)
    two.take(calls.of("d"), first=True)  # its utterance ended, and another one began
    for _ in range(3):
        two.leave()
    assert calls == ["e", "d", "c"]


def test_who_has_left_is_not_called(two: PartialPlaces):
    calls = Calls()
    for name in "abcd":
        two.take(calls.of(name), first=False)
    two.forget(calls.of("c"))
    two.forget(calls.of("nobody"))
    two.leave()
    assert calls == ["d"]


def answers(places: PartialPlaces, clock: Clock, took: float, n: int = 20, kind: str = "vad") -> None:
    for _ in range(n):
        clock.now += PERIOD_S / 4
        places.waited(kind, took)


def test_places_become_fewer_while_answers_are_late_and_one_is_left(two: PartialPlaces, clock: Clock):
    two.limit = 40
    answers(two, clock, 0.002)
    assert two.limit == 40, "nobody waited, nothing was late"
    answers(two, clock, 0.002 + 2 * LATE_S, 8)
    assert 1 < two.limit < 40
    answers(two, clock, 0.002 + 2 * LATE_S, 200)
    assert two.limit == 1
    assert two.take(lambda: None, first=False)


def test_places_become_more_only_while_someone_waits(two: PartialPlaces, clock: Clock):
    calls = Calls()
    answers(two, clock, 0.002, 40)
    assert two.limit == 2
    for name in "abcde":
        two.take(calls.of(name), first=False)
    answers(two, clock, 0.002, 40)
    assert calls == ["c", "d", "e"], "a place more is given at once"
    most = two.limit
    assert most >= 5
    answers(two, clock, 0.002, 40)
    assert two.limit <= most + 1


def test_late_is_late_for_its_kind(two: PartialPlaces, clock: Clock):
    """A server far away answers late without being busy."""
    two.limit = 10
    for _ in range(30):
        answers(two, clock, 0.002, 1)
        answers(two, clock, 0.3, 1, "whisper_far")
    assert two.limit == 10


def test_one_kind_that_is_late_is_enough(two: PartialPlaces, clock: Clock):
    two.limit = 10
    answers(two, clock, 0.05, 4, "whisper_x")
    for _ in range(30):
        answers(two, clock, 0.002, 3)
        answers(two, clock, 0.05 + 2 * LATE_S, 1, "whisper_x")
    assert two.limit < 10


@given(st.lists(st.tuples(st.sampled_from("tlfw"), st.integers(0, 5), st.floats(0, 0.2)), max_size=80))
def test_places_held_are_never_more_than_there_were_and_none_is_lost(steps: list[tuple[str, int, float]]):
    """take, leave, forget, waited in any order; holders leave in the end and the waiting get theirs."""
    clock = Clock()
    places = PartialPlaces(clock, limit=3)
    held: list[int] = []
    waiting: set[int] = set()
    callbacks = [lambda n=n: (waiting.discard(n), held.append(n)) for n in range(6)]
    for what, n, seconds in steps:
        clock.now += seconds
        if what == "t" and n not in held:
            if places.take(callbacks[n], first=n % 2 == 0):
                held.append(n)
            else:
                waiting.add(n)
        elif what == "l" and held:
            held.pop(0)
            places.leave()
        elif what == "f":
            places.forget(callbacks[n])
            waiting.discard(n)
        elif what == "w":
            places.waited("vad", seconds)
        assert places.taken == len(held)
        assert places.limit >= 1
    while held:
        held.pop(0)
        places.leave()
    assert not waiting
    assert places.taken == 0
