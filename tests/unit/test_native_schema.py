"""Every message that can be made is what the published schema describes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from frontend import errors
from frontend.errors import VoiceForgeError
from frontend.protocols import native
from frontend.protocols.config import StreamConfig
from frontend.protocols.native import NativeWire
from frontend.server.conversation import now
from frontend.server.gateway import NotFound
from frontend.speech.events import Alternative, Final, Finished, Partial, SpeechEnded, SpeechStarted, Timings, Word
from tests.unit.driver import Driver, speech

SCHEMA = json.loads((Path(native.__file__).parent / "native.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
STAMP = "2026-01-31T12:00:00.123Z"

SAMPLES = st.integers(0, 2**40)
SHARE = st.floats(0, 1)
TEXT = st.text(min_size=1, max_size=20)
MILLISECONDS = st.floats(0, 1e6)
TIMINGS = st.builds(Timings, MILLISECONDS, MILLISECONDS, MILLISECONDS)
OTHERS = st.lists(st.builds(Alternative, TEXT, SHARE), max_size=3).map(tuple)
WORDS = st.lists(st.builds(Word, TEXT, SAMPLES, SAMPLES, SHARE, OTHERS), max_size=4).map(tuple)


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, int]:
    """Segment, start, end."""
    start = draw(SAMPLES)
    return draw(st.integers(1, 10_000)), start, start + draw(st.integers(0, 500_000))


PARTIALS = st.builds(lambda w, *rest: Partial(*w, *rest), windows(), TEXT, SHARE, TIMINGS, WORDS, st.integers(0, 4))
FINALS = st.builds(
    lambda w, *rest: Final(*w, *rest), windows(), st.text(max_size=20), SHARE, WORDS, TIMINGS, st.booleans(), st.booleans(),
    st.none() | st.just("en"), st.none() | SHARE,
)  # fmt: skip
EVENTS = st.one_of(PARTIALS, FINALS, st.builds(SpeechStarted, SAMPLES), st.builds(SpeechEnded, SAMPLES))


def message(event: object, stamp: str, **config: object) -> dict[str, object] | None:
    """An event as a client with these settings reads it."""
    told = NativeWire(StreamConfig(**config)).tell(event, 0, stamp)  # type: ignore[arg-type]
    return told[0].body if told else None


def error_types(of: type[VoiceForgeError] = VoiceForgeError) -> list[type[VoiceForgeError]]:
    return [of, *(found for sub in of.__subclasses__() if sub.__module__ == of.__module__ for found in error_types(sub))]


def test_the_schema_itself_is_valid():
    Draft202012Validator.check_schema(SCHEMA)


SETTINGS = st.sampled_from(
    [
        {},
        {"punctuate": False, "min_confidence": 0.5},
        {"smart_format": True, "search": ["one"], "redact": ["numbers"]},
        {"replace": ["a:b"], "filler_words": False, "min_confidence": 0.9, "low_confidence": "drop"},
    ]
)


@given(EVENTS, SETTINGS)
def test_every_event_is_told_as_the_schema_says(event: Partial | Final | SpeechStarted | SpeechEnded, settings: dict):
    told = message(event, STAMP, **settings)
    if told is None:
        assert isinstance(event, Partial), "only a partial of which nothing is left is not told"
        return
    VALIDATOR.validate(json.loads(json.dumps(told)))


@given(FINALS)
def test_a_final_tells_seconds_and_keeps_its_words(final: Final):
    told = message(final, STAMP)
    assert told
    assert told["start"] == pytest.approx(final.start / 16_000, abs=0.001)
    assert told["duration"] == pytest.approx((final.end - final.start) / 16_000, abs=0.001)
    assert [w["word"] for w in told["words"]] == [w.text for w in final.words]
    assert told["is_final"] is True
    assert told["from_finalize"] is final.requested


def test_the_end_of_a_session_is_not_told_as_an_event():
    assert message(Finished(), STAMP) is None


@pytest.mark.parametrize("kind", [*error_types(), NotFound], ids=lambda kind: kind.__name__)
def test_every_error_is_told_as_the_schema_says(kind: type[VoiceForgeError]):
    VALIDATOR.validate(NativeWire(StreamConfig()).failed(kind("what is wrong; what to do"), STAMP)[0].body)


def test_the_clock_writes_what_the_schema_calls_a_timestamp():
    VALIDATOR.validate(message(SpeechStarted(0), now()))
    assert abs((datetime.fromisoformat(now()) - datetime.now(UTC)).total_seconds()) < 5


def test_what_a_whole_session_tells_is_what_the_schema_describes():
    d = Driver(speech((0.0, 20), (1.0, 400), (0.0, 30), (1.0, 330), (0.0, 40)))
    for n in range(0, 820, 100):
        d.frames(100)
        if n % 300 == 0:
            d.finalize()
    d.close()
    told = [message(e, STAMP) for e in d.events]
    assert {m["type"] for m in told if m} == {"speech_started", "speech_ended", "interim", "final"}
    for m in filter(None, told):
        VALIDATOR.validate(m)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "final"},
        {"type": "speech_started", "at": -1, "timestamp": STAMP},
        {"type": "speech_started", "at": 1.5, "timestamp": "yesterday"},
        {"type": "speech_started", "at": 1.5, "timestamp": STAMP, "extra": 1},
        {"type": "news"},
    ],
)
def test_the_schema_refuses_what_is_not_the_protocol(wrong: dict[str, object]):
    assert not VALIDATOR.is_valid(wrong)


def test_the_tree_of_errors_in_the_documentation_is_the_tree_there_is():
    lines = [line.split() for line in (errors.__doc__ or "").splitlines() if line[:1] in "├└" and line]
    drawn = {name: (code, int(close), int(status)) for _, name, code, close, status, *_ in lines}
    ours = [t for t in VoiceForgeError.__subclasses__() if t.__module__ == errors.__name__]
    real = {t.__name__: (t.code, t.close_code, t.status) for t in ours}
    assert drawn == real
    retryable = {line[1] for line in lines if "retryable;" in line or line[-1] == "retryable"}
    assert retryable == {name for name in real if getattr(errors, name).retryable}
