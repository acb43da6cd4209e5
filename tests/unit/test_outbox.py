"""What waits for one client: bounded, in order, and nothing settled is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import SlowClient
from frontend.observability.metrics import Metrics
from frontend.protocols.base import Outgoing
from frontend.server.outbox import Outbox

Message = dict[str, Any]


def outgoing(message: Message) -> Outgoing:
    segment = (0, message.get("segment", 0))
    return Outgoing(
        message,
        partial_of=segment if message["type"] == "interim" else None,
        settles=segment if message["type"] == "final" else None,
    )


class Client:
    """Receives what the outbox sends; reads nothing while `reading` is not set."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def send(self, text: str) -> None:
        await self.reading.wait()
        self.got.append(json.loads(text))


def outbox(client: Client, *, limit: int = 100, patience_s: float = 5.0) -> tuple[Outbox, Metrics]:
    metrics = Metrics()
    return Outbox(client.send, metrics, limit=limit, patience_s=patience_s), metrics


def waiting(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("voiceforge_outbox_messages")


def interim(segment: int, n: int = 0) -> Message:
    return {"type": "interim", "segment": segment, "n": n}


def final(segment: int) -> Message:
    return {"type": "final", "segment": segment}


async def delivered(*messages: Message, limit: int = 100) -> list[Message]:
    """What a client gets that begins to read when all of them wait."""
    client = Client()
    box, metrics = outbox(client, limit=limit)
    for m in messages:
        box.put(outgoing(m))
    box.finish()
    await box.run()
    assert waiting(metrics) == 0
    return client.got


async def test_messages_arrive_in_the_order_they_were_put():
    messages = [{"type": "ready"}, {"type": "speech_started", "at": 1}, interim(1), {"type": "error"}, {"type": "closed"}]
    assert await delivered(*messages) == messages


async def test_an_interim_replaces_the_one_of_its_segment_that_still_waits():
    assert await delivered(interim(1, 1), interim(1, 2), interim(1, 3)) == [interim(1, 3)]


async def test_interims_of_other_segments_stay():
    assert await delivered(interim(1), interim(2)) == [interim(1), interim(2)]


async def test_a_final_makes_the_interim_of_its_segment_pointless():
    assert await delivered(interim(1), {"type": "speech_ended"}, final(1)) == [{"type": "speech_ended"}, final(1)]


async def test_finals_are_never_replaced():
    finals = [final(1), final(1), final(2)]
    assert await delivered(*finals) == finals


async def test_text_is_sent_as_it_is_written():
    sent: list[str] = []

    async def send(text: str) -> None:
        sent.append(text)

    box = Outbox(send, Metrics(), limit=5, patience_s=1)
    box.put(outgoing({"type": "final", "segment": 1, "transcript": "größer 東京"}))
    box.finish()
    await box.run()
    assert "größer 東京" in sent[0]


MESSAGES = st.lists(
    st.one_of(
        st.builds(interim, st.integers(1, 4), st.integers(0, 99)),
        st.builds(final, st.integers(1, 4)),
        st.builds(lambda n: {"type": "speech_started", "at": n}, st.integers(0, 99)),
    ),
    max_size=30,
)


@given(MESSAGES)
def test_whatever_waits_finals_and_news_arrive_complete_and_in_order(messages: list[Message]):
    got = asyncio.run(delivered(*messages))
    assert [m for m in got if m["type"] != "interim"] == [m for m in messages if m["type"] != "interim"]
    for segment in range(1, 5):
        of_segment = [m for m in messages if m.get("segment") == segment]
        last = of_segment[-1:] if of_segment and of_segment[-1]["type"] == "interim" else []
        assert [m for m in got if m["type"] == "interim" and m["segment"] == segment] == last


async def test_messages_put_while_it_runs_are_sent_at_once():
    client = Client()
    box, _ = outbox(client)
    run = asyncio.create_task(box.run())
    for n in range(3):
        box.put(outgoing(final(n)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(client.got) == n + 1
    box.finish()
    await run


async def test_a_client_that_lets_too_much_wait_is_slow():
    client = Client()
    client.reading.clear()
    box, metrics = outbox(client, limit=3)
    run = asyncio.create_task(box.run())
    for n in range(1, 5):
        box.put(outgoing(final(n)))
        await asyncio.sleep(0)
    assert waiting(metrics) == 3
    box.put(outgoing(final(5)))
    client.reading.set()
    with pytest.raises(SlowClient, match="3 results wait"):
        await run
    assert waiting(metrics) == 0


async def test_interims_alone_never_fill_the_outbox():
    client = Client()
    client.reading.clear()
    box, metrics = outbox(client, limit=2)
    run = asyncio.create_task(box.run())
    for n in range(1_000):
        box.put(outgoing(interim(1, n)))
        if n % 100 == 0:
            await asyncio.sleep(0)
    assert waiting(metrics) == 1
    client.reading.set()
    box.finish()
    await run
    assert client.got == [interim(1, 0), interim(1, 999)]


async def test_a_final_finds_room_in_a_full_outbox_where_its_interim_waits():
    assert await delivered(final(1), interim(2), final(2), limit=2) == [final(1), final(2)]


async def test_a_send_that_is_not_taken_in_time_makes_the_client_slow():
    client = Client()
    client.reading.clear()
    box, metrics = outbox(client, patience_s=0.02)
    box.put(outgoing(final(1)))
    box.put(outgoing(final(2)))
    with pytest.raises(SlowClient, match="not read"):
        await box.run()
    assert waiting(metrics) == 0


async def test_a_connection_that_breaks_leaves_nothing_counted_as_waiting():
    async def broken(_: str) -> None:
        raise ConnectionResetError

    metrics = Metrics()
    box = Outbox(broken, metrics, limit=10, patience_s=1)
    for n in range(5):
        box.put(outgoing(final(n)))
    with pytest.raises(ConnectionResetError):
        await box.run()
    assert waiting(metrics) == 0


async def test_what_is_put_after_the_end_is_not_counted_as_waiting_for_ever():
    # A session still tells what was under way while its connection is being taken down.
    client = Client()
    box, metrics = outbox(client)
    box.finish()
    await box.run()
    box.put(outgoing(final(1)))
    assert waiting(metrics) == 0


async def test_a_cancelled_outbox_leaves_nothing_counted_as_waiting():
    client = Client()
    client.reading.clear()
    box, metrics = outbox(client)
    run = asyncio.create_task(box.run())
    for n in range(3):
        box.put(outgoing(final(n)))
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert waiting(metrics) == 0
