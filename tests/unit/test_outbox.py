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
from frontend.server.outbox import KEPT, Outbox

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


# --- connections that break ---------------------------------------------------------------------------------------------


class Line(Client):
    """A client whose pongs the test sends, and whose connection breaks at the n-th message."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks_at = 10**9
        self.pings: list[asyncio.Future[float]] = []

    async def send(self, text: str) -> None:
        if len(self.got) >= self.breaks_at:
            raise ConnectionResetError
        await super().send(text)

    async def ping(self) -> asyncio.Future[float]:
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]


def resumable(line: Line) -> tuple[Outbox, Metrics]:
    metrics = Metrics()
    return Outbox(line.send, metrics, limit=100, patience_s=5, ping=line.ping), metrics


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


READY = Outgoing({"type": "ready"}, greeting=True)


async def second_connection(box: Outbox, line: Line, after: int | None = None) -> list[Message]:
    """What comes over it."""
    line.got, line.breaks_at = [], 10**9
    box.again([READY], after)
    box.finish()
    await box.run()
    return line.got


async def test_what_no_pong_has_acknowledged_is_told_again_once():
    line = Line()
    box, metrics = resumable(line)
    run = asyncio.create_task(box.run())
    for message in (final(1), interim(2), {"type": "speech_ended"}):
        box.put(outgoing(message))
    await settle()
    line.pings[0].set_result(0.01)
    await settle()
    box.put(outgoing(final(2)))
    box.put(outgoing(interim(3)))
    await settle()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    box.put(outgoing(final(3)))
    assert await second_connection(box, line) == [{"type": "ready"}, final(2), final(3)]
    assert waiting(metrics) == 0


async def test_what_could_not_be_sent_is_told_over_the_next_connection():
    line = Line()
    line.breaks_at = 1
    box, _ = resumable(line)
    for n in range(1, 5):
        box.put(outgoing(final(n)))
    with pytest.raises(ConnectionResetError):
        await box.run()
    assert await second_connection(box, line) == [{"type": "ready"}, *(final(n) for n in range(1, 5))]


async def test_a_second_break_in_the_middle_of_the_telling_again_loses_nothing():
    line = Line()
    line.breaks_at = 3
    box, _ = resumable(line)
    for n in range(1, 6):
        box.put(outgoing(final(n)))
    with pytest.raises(ConnectionResetError):
        await box.run()
    line.got, line.breaks_at = [], 2
    box.again([READY])
    with pytest.raises(ConnectionResetError):
        await box.run()
    assert await second_connection(box, line) == [{"type": "ready"}, *(final(n) for n in range(1, 6))]


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("acknowledged", [False, True])
async def test_a_client_may_say_what_it_has(after: int, acknowledged: bool):
    line = Line()
    box, _ = resumable(line)
    run = asyncio.create_task(box.run())
    for n in range(1, 4):
        box.put(outgoing(final(n)))
    await settle()
    if acknowledged:
        line.pings[0].set_result(0.01)
        await settle()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert await second_connection(box, line, after) == [{"type": "ready"}, *(final(n) for n in range(1, 4) if n > after)]


async def test_what_was_acknowledged_is_kept_for_a_while_only():
    line = Line()
    box, _ = resumable(line)
    run = asyncio.create_task(box.run())
    for n in range(1, 101):
        box.put(outgoing(final(n)))
        await settle()
        if not line.pings[-1].done():
            line.pings[-1].set_result(0.01)
        await settle()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert box.n_unknown == 0
    told = await second_connection(box, line, after=0)
    assert told[1:] == [final(n) for n in range(101 - KEPT, 101)]


async def test_partials_that_waited_for_a_client_are_old():
    line = Line()
    box, metrics = resumable(line)
    box.put(READY)
    for n in range(3):
        box.put(outgoing(interim(n)))
    assert await second_connection(box, line) == [{"type": "ready"}]
    box.put(outgoing(final(1)))
    box.close()
    assert waiting(metrics) == 0
