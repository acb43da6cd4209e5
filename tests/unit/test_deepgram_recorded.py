"""The answer to a recording, put together from what its sessions told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frontend.protocols.deepgram.query import understood
from frontend.protocols.deepgram.recorded import Recording, Transcript, response
from frontend.speech.events import Final, SpeechStarted, Timings, Word
from tests.unit.deepgram_schema import validate
from tests.unit.test_native_schema import FINALS

RECORDING = Recording("12345678-1234-5678-1234-567812345678", "2026-01-31T12:00:00.000Z", "0" * 64, 160_000, "nano")


def final(segment: int, start: float, text: str, language: str | None = None) -> Final:
    """Words of 300 ms, one after the other."""
    words = tuple(
        Word(w, round((start + 0.3 * i) * 16_000), round((start + 0.3 * (i + 1)) * 16_000), 0.9)
        for i, w in enumerate(text.split())
    )
    probability = 0.8 if language else None
    return Final(segment, words[0].start, words[-1].end, text, 0.9, words, Timings(), language=language,
                 language_probability=probability)  # fmt: skip


def answer(*channels: list[Final], **query: str | list[str]) -> dict:
    listen = understood({k: v if isinstance(v, list) else [v] for k, v in query.items()}, "recorded")
    transcripts = [Transcript(listen) for _ in channels]
    for transcript, finals in zip(transcripts, channels, strict=True):
        for event in finals:
            transcript.add(event)
    body = response(listen, RECORDING, transcripts)
    validate(body)
    return body


def alternative(told: dict) -> dict:
    return told["results"]["channels"][0]["alternatives"][0]


ONE = [final(1, 1.0, "Good morning, Anna."), final(2, 3.0, "The train is late."), final(3, 9.0, "Good bye.")]
OTHER = [final(1, 2.5, "Hello there.")]


def test_segments_are_one_transcript():
    told = answer(ONE, punctuate="true")
    assert alternative(told)["transcript"] == "Good morning, Anna. The train is late. Good bye."
    assert told["metadata"]["duration"] == 10.0
    assert "utterances" not in told["results"]


def test_nothing_said_is_an_empty_transcript():
    told = answer([], utterances="true", paragraphs="true")["results"]
    assert told["channels"][0]["alternatives"][0]["transcript"] == ""
    assert told["utterances"] == []


def test_utterances_of_all_channels_are_in_the_order_of_time():
    told = answer(ONE, OTHER, utterances="true", multichannel="true")["results"]["utterances"]
    assert [(u["channel"], u["transcript"]) for u in told] == [
        (0, "good morning anna"), (1, "hello there"), (0, "the train is late"), (0, "good bye"),
    ]  # fmt: skip
    assert len({u["id"] for u in told}) == 4


def test_a_longer_pause_may_stay_within_an_utterance():
    told = answer(ONE, utterances="true", utt_split="2")["results"]["utterances"]
    assert [u["transcript"] for u in told] == ["good morning anna the train is late", "good bye"]


def test_paragraphs_come_when_asked_for_and_with_smart_format():
    for query in ({"paragraphs": "true", "punctuate": "true"}, {"smart_format": "true"}):
        told = alternative(answer(ONE, **query))["paragraphs"]
        assert told["transcript"] == "Good morning, Anna. The train is late.\n\nGood bye."
        assert [s["text"] for s in told["paragraphs"][0]["sentences"]] == ["Good morning, Anna.", "The train is late."]
    assert "paragraphs" not in alternative(answer(ONE, punctuate="true"))


def test_search_covers_the_whole_recording_also_where_nothing_is_found():
    told = answer(ONE, search=["good", "elephant"])["results"]["channels"][0]["search"]
    assert [f["query"] for f in told] == ["good", "elephant"]
    assert sorted(h["start"] for h in told[0]["hits"] if h["confidence"] == 1.0) == [1.0, 9.0]
    assert told[1]["hits"] == []


def test_the_language_is_that_of_most_words():
    finals = [final(1, 1.0, "Guten Tag zusammen", "de"), final(2, 5.0, "Bye", "en")]
    told = answer(finals, detect_language="true")["results"]["channels"][0]
    assert (told["detected_language"], told["language_confidence"]) == ("de", 0.8)
    assert "languages" not in told["alternatives"][0]
    told = answer(finals, language="multi")["results"]["channels"][0]
    assert told["alternatives"][0]["languages"] == ["de", "en"]
    assert "detected_language" not in told


def test_other_events_are_no_words():
    transcript = Transcript(understood({}, "recorded"))
    transcript.add(SpeechStarted(0))
    assert transcript.words == []


@given(st.lists(st.lists(FINALS, max_size=4), min_size=1, max_size=3), st.booleans())
def test_every_answer_is_what_the_schema_says(channels: list[list[Final]], smart: bool):
    ordered = [sorted(finals, key=lambda f: f.start) for finals in channels]
    answer(*ordered, smart_format=str(smart).lower(), utterances="true", language="multi", tag=["x"], diarize="true")
