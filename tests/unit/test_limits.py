"""Connection slots are given back whatever happens."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from frontend.control.limits import ConnectionSlots
from frontend.errors import TooManyConnections


def test_as_many_as_the_limit_are_given_and_no_more():
    slots = ConnectionSlots(2)
    with slots.take(), slots.take():
        assert slots.used == 2
        with pytest.raises(TooManyConnections, match="all 2 connections"), slots.take():
            pytest.fail("a third slot was given")
        assert slots.used == 2
    assert slots.used == 0


def test_a_slot_is_free_again_after_an_exception():
    slots = ConnectionSlots(1)
    for _ in range(3):
        with pytest.raises(ConnectionResetError), slots.take():
            raise ConnectionResetError
    assert slots.used == 0


def test_a_slot_held_by_a_handshake_that_fails_later_is_given_back():
    slots = ConnectionSlots(1)

    def handshake() -> None:
        with ExitStack() as held:
            held.enter_context(slots.take())
            raise TimeoutError

    with pytest.raises(TimeoutError):
        handshake()
    with slots.take():
        assert slots.used == 1


def test_no_slots_at_all_is_a_limit_too():
    with pytest.raises(TooManyConnections), ConnectionSlots(0).take():
        pytest.fail("a slot was given")
