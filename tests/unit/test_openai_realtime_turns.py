"""OpenAI's Realtime wire: turns, from their first word to their transcript, which only grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from frontend.errors import (
    EngineUnavailable,
    SessionTooLong,
    ShuttingDown,
    SlowClient,
    VoiceForgeError,
)
from frontend.protocols.base import Totals
from frontend.protocols.openai.realtime import RealtimeWire
from frontend.speech.events import (
    Event,
    Final,
    Finished,
    Flushed,
    Hypothesis,
    NothingSaid,
    Partial,
    RunAsr,
    SpeechEnded,
    SpeechStarted,
    Timings,
    Word,
)
from frontend.speech.settings import SessionSettings
from tests.unit.deepgram_schema import error_types
from tests.unit.driver import Driver, window_as_text
from tests.unit.realtime_schema import SCHEMA, validate
from tests.unit.realtime_wire import (
    SECOND,
    STAMP,
    TRANSCRIPTION,
    final,
    kinds,
    partial,
    send,
    tell,
    update,
    wire,
)

# --- turns --------------------------------------------------------------------------------------------------------


def test_an_utterance_from_its_first_word_to_its_transcript():
    told = tell(
        wire(),
        SpeechStarted(SECOND),
        partial("Good", 0, start=SECOND),
        partial("Good morning Anna", 2, start=SECOND),
        SpeechEnded(2 * SECOND),
        final("Good morning, Anna.", start=SECOND),
    )
    assert kinds(told) == [
        "speech_started", "delta", "speech_stopped", "committed", "conversation.item.added", "conversation.item.done",
        "delta", "completed",
    ]  # fmt: skip
    assert told[0]["audio_start_ms"] == 700
    assert told[2]["audio_end_ms"] == 2000
    assert [body["delta"] for body in told if "delta" in body] == ["Good morning", " Anna."]
    assert told[-1]["transcript"] == "Good morning Anna."
    assert told[-1]["usage"] == {"type": "duration", "seconds": 1.0}
    assert len({body["item_id"] for body in told if "item_id" in body}) == 1
    assert len({body["event_id"] for body in told}) == len(told)


def test_items_name_the_one_before():
    told = tell(wire(), *(e for i in range(3) for e in (SpeechStarted(i), SpeechEnded(i), NothingSaid(i))))
    committed = [body for body in told if body["type"] == "input_audio_buffer.committed"]
    assert [body["previous_item_id"] for body in committed] == [None, *(body["item_id"] for body in committed[:2])]
    added = [body for body in told if body["type"] == "conversation.item.added"]
    assert [body["item"]["id"] for body in added] == [body["item_id"] for body in committed]


def test_a_long_utterance_is_one_item_of_several_finals():
    told = tell(
        wire(), SpeechStarted(0), final("One two", ends=False), final("three", segment=2, start=SECOND, ends=False),
        SpeechEnded(3 * SECOND), final("four.", segment=3, start=2 * SECOND),
    )  # fmt: skip
    assert [body["delta"] for body in told if "delta" in body] == ["One two", " three", " four."]
    assert told[-1]["transcript"] == "One two three four."
    assert told[-1]["usage"]["seconds"] == 3.0


def test_no_word_is_told_twice_or_taken_back():
    one = wire()
    told = tell(
        one, SpeechStarted(0), partial("A b c", 2), partial("A b d", 1), partial("A b d e", 3), SpeechEnded(SECOND),
        final("A b x y"),
    )  # fmt: skip
    assert [body["delta"] for body in told if "delta" in body] == ["A b", " d", " y"]


def test_a_next_utterance_may_begin_before_the_transcript_of_the_last():
    told = tell(
        wire(), SpeechStarted(0), SpeechEnded(SECOND), SpeechStarted(2 * SECOND), final("First."),
        partial("Second one", 1, segment=2, start=2 * SECOND), SpeechEnded(3 * SECOND),
        final("Second one.", segment=2, start=2 * SECOND),
    )  # fmt: skip
    texts = {body["item_id"]: body["transcript"] for body in told if "transcript" in body}
    assert list(texts.values()) == ["First.", "Second one."]


def test_an_utterance_without_words_is_completed_as_well():
    told = tell(wire(), SpeechStarted(0), SpeechEnded(SECOND), NothingSaid(SECOND))
    assert (kinds(told)[-1], told[-1]["transcript"]) == ("completed", "")


def test_words_of_scripts_without_spaces_get_none():
    pieces = (Word("今日", 0, 1, 0.5), Word("は", 1, 2, 0.5))
    end = Final(2, SECOND, 2 * SECOND, "晴れ", 0.5, (Word("晴れ", 2, 3, 0.5),), Timings())
    told = tell(
        wire(), SpeechStarted(0), Partial(1, 0, 9, "今日は", 0.5, Timings(), pieces, 2),
        Final(1, 0, SECOND, "今日は", 0.5, pieces, Timings(), ends_utterance=False), SpeechEnded(SECOND), end,
    )  # fmt: skip
    assert told[-1]["transcript"] == "今日は晴れ"


def test_log_probabilities_are_told_when_they_are_included():
    one = wire()
    send(one, "session.update", session={"include": ["item.input_audio_transcription.logprobs", "colour"]})
    assert one.configured("nano", STAMP)[0].body["session"]["voiceforge"]["not_in_effect"] == ["include.colour"]
    told = tell(one, SpeechStarted(0), partial("Good day", 1), SpeechEnded(SECOND), final("Good day"))
    assert [p["token"] for p in told[-1]["logprobs"]] == ["Good", " day"]
    assert told[-1]["logprobs"] == [p for body in told if "delta" in body for p in body["logprobs"]]
    assert told[-1]["logprobs"][0]["logprob"] == pytest.approx(-0.693, abs=0.001)
    assert bytes(told[-1]["logprobs"][1]["bytes"]) == b" day"


def test_a_commit_during_server_turns_ends_the_utterance_or_makes_an_empty_item():
    told = tell(
        wire(), SpeechStarted(0), SpeechEnded(SECOND), Flushed(SECOND, discarded=False, ended=True),
        final("One", requested=True), Flushed(SECOND, discarded=False, ended=False), SpeechStarted(SECOND),
        SpeechEnded(2 * SECOND), final("", segment=2, start=SECOND, requested=True), final("Two", segment=3, start=SECOND),
    )  # fmt: skip
    assert [body["transcript"] for body in told if "transcript" in body] == ["One", "", "Two"]


def manual() -> RealtimeWire:
    one = wire()
    assert update(one, turn_detection=None)["audio"]["input"]["turn_detection"] is None
    return one


def test_without_server_turns_an_item_is_what_was_sent_up_to_a_commit():
    one = manual()
    told = tell(
        one, SpeechStarted(0), partial("One two", 1), SpeechEnded(SECOND), final("One two."),
        SpeechStarted(2 * SECOND), Flushed(3 * SECOND, discarded=False, ended=True),
        final("Three", segment=2, start=2 * SECOND, ends=False), final("four", segment=3, start=2 * SECOND, requested=True),
        Flushed(3 * SECOND, discarded=False, ended=False), final("", segment=4, start=3 * SECOND, requested=True),
    )  # fmt: skip
    assert not {"speech_started", "speech_stopped"} & set(kinds(told))
    assert [body["transcript"] for body in told if "transcript" in body] == ["One two. Three four", ""]
    assert [body["delta"] for body in told if "delta" in body] == ["One", " two.", " Three", " four"]


@pytest.mark.parametrize("make", [wire, manual])
def test_what_was_cleared_is_not_in_the_next_item(make: Callable[[], RealtimeWire]):
    told = tell(
        make(), SpeechStarted(0), partial("Never mind", 2), Flushed(SECOND, discarded=True, ended=False),
        final("Never mind that", ends=False), SpeechStarted(SECOND), SpeechEnded(2 * SECOND),
        Flushed(2 * SECOND, discarded=False, ended=True), final("Late.", segment=1, ends=False),
        final("This.", segment=2, start=SECOND, requested=True),
    )  # fmt: skip
    assert "cleared" in kinds(told)
    assert [body["transcript"] for body in told if "transcript" in body] == ["This."]


def test_what_was_committed_before_a_clear_gets_its_transcript():
    told = tell(
        manual(), Flushed(SECOND, discarded=False, ended=True), Flushed(SECOND, discarded=True, ended=False),
        final("This.", requested=True),
    )  # fmt: skip
    assert told[-1]["transcript"] == "This."


def test_at_the_end_what_was_heard_is_committed_and_what_has_no_final_has_failed():
    one = manual()
    told = tell(one, final("Before the end.", requested=True), Finished())[1:]
    assert one.closed(Totals(), ShuttingDown("soon"), STAMP) == []
    assert kinds(told) == ["committed", "conversation.item.added", "conversation.item.done", "completed"]
    one = wire()
    tell(one, SpeechStarted(0), SpeechEnded(SECOND))
    (told,) = [out.body for out in one.closed(Totals(), EngineUnavailable("away"), STAMP)]
    validate(told)
    assert told["type"] == f"{TRANSCRIPTION}.failed"
    assert told["error"]["code"] == "engine_unavailable"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 1000),
        (ShuttingDown("x"), 1012),
        (EngineUnavailable("x"), 1013),
        (SessionTooLong("x"), 1001),
        (SlowClient("x" * 200), 1008),
    ],
)
def test_close_codes(error: VoiceForgeError | None, code: int):
    told, reason = wire().close_frame(error)
    assert told == code
    assert len(reason.encode()) <= 123


@pytest.mark.parametrize("kind", error_types(), ids=lambda kind: kind.__name__)
def test_every_error_is_told_as_the_schema_says(kind: type[VoiceForgeError]):
    if kind.__module__ == "frontend.errors":
        validate(wire().failed(kind("what is wrong; what to do"), STAMP)[0].body)


def test_the_schema_itself_is_valid():
    Draft202012Validator.check_schema(SCHEMA)


# --- properties ---------------------------------------------------------------------------------------------------


def check_items(told: Sequence[dict[str, Any]]) -> None:
    """Deltas of an item are its transcript; every committed item is completed once, after it was committed, in order."""
    heard: dict[str, str] = {}
    committed: list[str] = []
    completed: list[str] = []
    for body in told:
        match body["type"].removeprefix(f"{TRANSCRIPTION}."):
            case "delta":
                assert body["item_id"] not in completed
                heard[body["item_id"]] = heard.get(body["item_id"], "") + body["delta"]
            case "input_audio_buffer.committed":
                assert body["previous_item_id"] == (committed[-1] if committed else None)
                committed.append(body["item_id"])
            case "completed":
                assert body["transcript"] == heard.get(body["item_id"], "")
                completed.append(body["item_id"])
    assert completed == committed[: len(completed)]


TEXT = st.text(st.sampled_from("ab ,今日é"), max_size=12)
WORDS = st.lists(st.builds(Word, TEXT, st.just(0), st.just(1), st.floats(0, 1)), max_size=4).map(tuple)
SEGMENT, AT = st.integers(1, 4), st.integers(0, 5)
ANY_PARTIAL = st.builds(Partial, SEGMENT, AT, AT, TEXT, st.just(0.5), st.just(Timings()), WORDS, st.integers(0, 4))
ANY_FINAL = st.builds(
    lambda segment, at, text, words, *ends: Final(segment, at, at + 1, text, 0.5, words, Timings(), *ends),
    SEGMENT, AT, TEXT, WORDS, st.booleans(), st.booleans(),
)  # fmt: skip
ANY = st.one_of(
    ANY_PARTIAL, ANY_FINAL, st.builds(SpeechStarted, AT), st.builds(SpeechEnded, AT), st.builds(NothingSaid, AT),
    st.builds(Flushed, AT, st.booleans(), st.booleans()), st.just(Finished()),
)  # fmt: skip


@given(st.lists(ANY, max_size=25), st.booleans(), st.booleans())
def test_whatever_comes_deltas_are_the_transcript(events: list[Event], is_manual: bool, logprobs: bool):
    one = manual() if is_manual else wire()
    if logprobs:
        send(one, "session.update", session={"include": ["item.input_audio_transcription.logprobs"]})
        one.configured("nano", STAMP)
    check_items(tell(one, *events))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["audio", "audio", "audio", "finalize", "discard", "answer_vad", "answer_asr"]), st.integers(1, 60)
    ),
    max_size=30,
)
RUNS = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 1.0, 1.0, 0.2]), st.integers(1, 60)), max_size=12)


def hears(silent: frozenset[int]) -> Callable[[RunAsr], Hypothesis]:
    """As windows, but nothing in windows that begin in a second of `silent`."""
    return lambda request: Hypothesis("") if request.start // SECOND in silent else window_as_text(request)


@given(RUNS, STEPS, st.booleans(), st.booleans(), st.frozensets(st.integers(0, 20), max_size=6))
def test_in_real_sessions_every_item_is_completed_and_every_commit_and_clear_answered(
    runs: list[tuple[float, int]], steps: list[tuple[str, int]], is_manual: bool, at_once: bool, silent: frozenset[int]
):
    script = [p for p, n in runs for _ in range(n)]
    settings = SessionSettings(max_segment=6 * SECOND, split_after=2 * SECOND)
    d = Driver(script, settings, at_once=at_once, answer=hears(silent))
    one, told, n_commits, n_clears = (manual() if is_manual else wire()), [], 0, 0
    for step, n in steps:
        if step == "audio":
            d.audio(n * 500)
        elif step == "discard":
            d._carry_out(d.core.discard())
            n_clears += 1
        else:
            n_commits += step == "finalize"
            getattr(d, step)()
        told += tell(one, *d.events)
        d.events.clear()
    d.close()
    told += tell(one, *d.events)
    assert one.closed(Totals(), ShuttingDown("soon"), STAMP) == []
    check_items(told)
    names = kinds(told)
    assert names.count("committed") == names.count("completed")
    assert names.count("cleared") == n_clears
    if is_manual:
        assert n_commits <= names.count("committed") <= n_commits + 1
    else:
        assert names.count("committed") >= names.count("speech_stopped")
