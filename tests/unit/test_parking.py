"""Which sessions wait for their clients, how many, and who may come back."""

from __future__ import annotations

import uuid
from contextlib import ExitStack

import pytest

from frontend.observability.metrics import Metrics
from frontend.server.parking import Parking, owner
from frontend.server.siblings import Siblings, session_id


def parking(limit: int = 3, memory_bytes: int = 1000) -> tuple[Parking[str], Metrics]:
    metrics = Metrics()
    return Parking(metrics, limit=limit, memory_bytes=memory_bytes), metrics


def test_a_session_is_found_by_path_key_and_name_together():
    lot, _ = parking()
    with lot.known(owner("/ws", "key", "name"), "session"):
        assert lot.find(owner("/ws", "key", "name")) == ["session"]
        for other in (owner("/v1", "key", "name"), owner("/ws", "other", "name"), owner("/ws", None, "name")):
            assert lot.find(other) == []
        with lot.known(owner("/ws", "key", "name"), "another"):
            assert lot.find(owner("/ws", "key", "name")) == ["session", "another"]
    assert lot.find(owner("/ws", "key", "name")) == []


@pytest.mark.parametrize(
    ("sizes", "leaving"), [([1, 1, 1], []), ([1] * 5, [0, 1]), ([400, 400, 400], [0]), ([1, 2000], [0, 1])]
)
def test_the_one_that_has_waited_longest_makes_room(sizes: list[int], leaving: list[int]):
    lot, metrics = parking()
    with ExitStack() as held:
        places = [held.enter_context(lot.place(size)) for size in sizes]
        assert [i for i, place in enumerate(places) if place.is_set()] == leaving
        assert metrics.registry.get_sample_value("voiceforge_parked_sessions") == len(sizes)
    assert metrics.registry.get_sample_value("voiceforge_parked_sessions") == 0


def test_a_place_that_is_free_again_is_taken():
    lot, _ = parking(limit=1)
    with lot.place(1) as first:
        pass
    with lot.place(1) as second:
        assert not first.is_set()
        assert not second.is_set()


@pytest.mark.parametrize("worker", [0, 1, 63])
def test_an_id_is_a_random_uuid_that_names_its_worker(worker: int):
    ids = {session_id(worker) for _ in range(200)}
    assert len(ids) == 200
    assert all(uuid.UUID(i).version == 4 for i in ids)
    others = Siblings("7")
    others.known({"7": "http://own", str(worker): "http://holder"})
    assert {others.holder(i) for i in ids} == {"http://holder"}


def test_an_id_of_ours_or_of_nobody_is_held_by_no_other():
    others = Siblings("7")
    others.known({"7": "http://own", "1": "http://one"})
    assert [others.holder(i) for i in (session_id(7), session_id(2), "nonsense", "")] == [None] * 4
