"""How a stream's text, its lags and the verdict over them come about in `bench.streams`: no server, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import Clip
from bench.streams.lags import Said, Seen, ends, lags, words
from bench.streams.measure import enough, percentiles, script
from bench.streams.slo import BEYOND, TRIES, Verdict, climb, judge
from bench.streams.wires import Loop, Native, Refused, ServerError, WhisperLive, WhisperLiveKit, Wire

# --- wires --------------------------------------------------------------------------------------------------------------


def texts(wire: Wire, messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(all text, committed text) after each message."""
    out: list[tuple[str, str]] = []
    for message in messages:
        wire.take(message)
        out.append((wire.text, wire.committed))
    return out


def interim(segment: int, text: str, kind: str = "interim") -> dict[str, Any]:
    return {"type": kind, "segment": segment, "transcript": text}


def test_ours_an_interim_is_replaced_and_a_final_ends_its_segment():
    messages = [
        {"type": "speech_started", "at": 0.1},
        interim(1, "the"),
        interim(1, "the train"),
        interim(1, "The train.", "final"),
        interim(1, "the train to"),  # of a segment that is over
        interim(2, "next"),
        interim(2, "", "final"),
    ]
    assert texts(Native(), messages) == [
        ("", ""),
        ("the", ""),
        ("the train", ""),
        ("The train.", "The train."),
        ("The train.", "The train."),
        ("The train. next", "The train."),
        ("The train.", "The train."),
    ]


def segment(start: str, end: str, text: str, completed: bool = False) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, "completed": completed}


def test_whisper_live_completed_segments_are_repeated_and_kept_once():
    first, second = segment("0.000", "1.500", " one two", True), segment("1.500", "3.000", " one two", True)
    messages = [
        {"uid": "a", "segments": [segment("0.000", "1.000", " one")]},
        {"uid": "a", "segments": [first, segment("1.500", "2.000", " three")]},
        {"uid": "a", "language": "en", "language_prob": 0.9},
        {"uid": "a", "segments": [first, second]},  # the same words said again are another segment
    ]
    assert texts(WhisperLive(), messages) == [
        ("one", ""),
        ("one two three", "one two"),
        ("one two three", "one two"),
        ("one two one two", "one two one two"),
    ]


def test_whisper_live_segments_that_are_no_longer_repeated_stay():
    wire = WhisperLive()
    for k in range(15):
        kept = [segment(f"{i}.000", f"{i + 1}.000", f" w{i}", True) for i in range(max(0, k - 9), k + 1)]
        wire.take({"uid": "a", "segments": kept})
    assert wire.committed.split() == [f"w{i}" for i in range(15)]


def test_whisper_live_takes_float32_and_says_when_it_is_full():
    samples = np.array([0, 16384, -32768], np.int16)
    assert np.frombuffer(WhisperLive().audio(samples), np.float32).tolist() == [0.0, 0.5, -1.0]
    assert WhisperLive().ready({"uid": "a", "message": "SERVER_READY", "backend": "faster_whisper"})
    with pytest.raises(Refused):
        WhisperLive().ready({"uid": "a", "status": "WAIT", "message": 3.5})
    with pytest.raises(ServerError, match="Failed to load"):
        WhisperLive().ready({"uid": "a", "status": "ERROR", "message": "Failed to load model"})
    with pytest.raises(ServerError, match="DISCONNECT"):
        WhisperLive().take({"uid": "a", "message": "DISCONNECT"})


def test_whisper_live_kit_every_message_is_the_whole_text():
    silence = {"speaker": -2, "text": "", "start": "0:00:00.00", "end": "0:00:01.00"}
    line = {"speaker": 1, "text": " one two", "start": "0:00:01.00", "end": "0:00:02.00"}
    messages = [
        {"status": "no_audio_detected", "lines": [], "buffer_transcription": ""},
        {"status": "active_transcription", "lines": [silence], "buffer_transcription": " one"},
        {"status": "active_transcription", "lines": [silence, line], "buffer_transcription": " three"},
        {"type": "ready_to_stop"},
    ]
    assert texts(WhisperLiveKit(), messages) == [
        ("", ""),
        ("one", ""),
        ("one two three", "one two"),
        ("one two three", "one two"),
    ]
    assert WhisperLiveKit().over('{"type":"ready_to_stop"}')
    assert not WhisperLiveKit().over('{"status":"active_transcription","lines":[]}')
    with pytest.raises(ServerError, match="pcm-input"):
        WhisperLiveKit().ready({"type": "config", "useAudioWorklet": False})
    with pytest.raises(ServerError, match="FFmpeg"):
        WhisperLiveKit().take({"status": "error", "error": "FFmpeg failed to start"})


def test_the_loop_a_final_empties_the_running_text():
    messages = [{"text": "a", "final": False}, {"text": "a b", "final": True}, {"text": "c", "final": False}]
    assert texts(Loop(), messages) == [("a", ""), ("a b", "a b"), ("a b c", "a b")]


# --- lags ---------------------------------------------------------------------------------------------------------------

SAID = [Said("The cat sat.", 1.0, 2.0), Said("The dog ran home.", 4.0, 5.0)]


def test_a_sentence_is_there_when_its_words_stop_changing():
    seen = [
        Seen(1.4, "the"),
        Seen(1.9, "the cap"),
        Seen(2.3, "The cat sat."),  # now it is right
        Seen(4.6, "The cat sat. the dock"),
        Seen(5.2, "The cat sat, the dog ran home"),  # punctuation and case are not words
        Seen(5.9, "The cat sat. The dog ran home."),
    ]
    found = lags(SAID, seen)
    assert found.first == pytest.approx([0.4, 0.6])
    assert found.final == pytest.approx([0.3, 0.2])
    assert found.missed == 0


def test_a_text_that_changes_back_and_forth_is_there_when_that_ends():
    seen = [
        Seen(2.1, "the cat sat"),
        Seen(3.0, "the bat sat"),
        Seen(3.5, "the cat sat"),
        Seen(6, "the cat sat the dog ran home"),
    ]
    assert lags(SAID, seen).final == pytest.approx([1.5, 1.0])


def test_a_sentence_without_a_word_is_missed():
    found = lags(SAID, [Seen(2.5, "the cat sat")])
    assert (found.final, found.missed) == (pytest.approx([0.5]), 1)
    assert lags(SAID, []).missed == 2


def test_words_of_the_next_sentence_do_not_delay_this_one():
    """The last word of the first was not heard: what stands in its place belongs to the second."""
    seen = [Seen(2.2, "the cat"), Seen(5.4, "the cat a dog ran home")]
    assert lags(SAID, seen).final == pytest.approx([0.2, 0.4])


def test_a_sentence_said_twice_and_heard_once_is_missed_the_second_time():
    """The alignment alone could give the words to either."""
    said = [Said("The cat sat.", 1.0, 2.0), Said("The cat sat.", 4.0, 5.0)]
    found = lags(said, [Seen(2.4, "the cat sat")])
    assert (found.final, found.missed) == (pytest.approx([0.4]), 1)
    found = lags(said, [Seen(5.4, "the cat sat")])
    assert found.missed == 1


def test_missed_sentences_are_endless_in_percentiles():
    assert percentiles([0.1, 0.2, 0.3], 0) == {"p50": 200.0, "p95": 290.0}
    assert percentiles([0.1, 0.2, 0.3], 2) == {"p50": 300.0, "p95": None}
    assert percentiles([0.1] * 95, 5) == {"p50": 100.0, "p95": None}
    assert percentiles([0.1] * 99, 1) == {"p50": 100.0, "p95": 100.0}
    assert percentiles([], 3) == percentiles([], 0) == {"p50": None, "p95": None}


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4), min_size=1, max_size=5), st.data())
def test_where_sentences_end(sentences: list[list[str]], data: st.DataObject):
    said = [w for s in sentences for w in s]
    exact = ends(sentences, said)
    assert exact == np.cumsum([len(s) for s in sentences]).tolist()
    found = data.draw(st.lists(st.sampled_from("abcd"), max_size=12))
    cut = ends(sentences, found)
    assert cut == sorted(cut)
    assert all(0 <= n <= len(found) for n in cut)


@given(st.lists(st.text("ab ", max_size=6), min_size=1, max_size=6))
def test_from_the_moment_found_the_text_up_to_a_sentence_stays(seen: list[str]):
    found = lags([Said("a b", 100.0, 0.0), Said("b a", 200.0, 0.0)], [Seen(float(i), t) for i, t in enumerate(seen)])
    last = words(seen[-1])
    assert len(found.final) == bool(last)  # all of it was there before the second began
    for at in found.final:
        assert all(words(t)[: len(last)] == last for t in seen[int(at) :])
        assert at == 0 or words(seen[int(at) - 1])[: len(last)] != last


# --- the SLO and the ramp -----------------------------------------------------------------------------------------------


@dataclass
class Step:
    final_lag_p95_ms: float | None = 300.0
    wer: float = 20.0
    words: int = 1000
    n_errors: int = 0
    refused: int = 0
    client_lag_ms: float = 20.0


def test_a_step_within_all_limits_meets_the_slo():
    assert judge(Step(wer=20.5), Step()).met


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (Step(final_lag_p95_ms=500.0), "final lag 500 ms"),
        (Step(final_lag_p95_ms=None), "sentences without text"),
        (Step(wer=20.6), "WER 20.6 % (20.0 % alone, margin 0.5)"),
        (Step(n_errors=1), "1 errors"),
        (Step(refused=2), "2 refused"),
    ],
)
def test_a_step_says_what_it_did_not_keep(step: Step, told: str):
    verdict = judge(step, Step())
    assert not verdict.met
    assert str(verdict) == told


def test_few_words_alone_tell_less():
    assert judge(Step(wer=23.9), Step(words=50)).met
    assert not judge(Step(wer=24.1), Step(words=50)).met


def test_a_late_client_proves_nothing():
    verdict = judge(Step(client_lag_ms=101, final_lag_p95_ms=9000), Step())
    assert not verdict.met
    assert str(verdict) == "void: the client was 101 ms late"


def scripted(results: dict[int, list[Verdict]], asked: list[tuple[int, int]]) -> Callable[[int, int], Verdict]:
    def measure(streams: int, attempt: int) -> Verdict:
        asked.append((streams, attempt))
        return results[streams][attempt]

    return measure


MET, FAILED, VOID = Verdict(), Verdict(("late",)), Verdict(void="the client was late")


@pytest.mark.parametrize("bad", [FAILED, VOID])
def test_the_first_step_that_fails_twice_decides_and_some_beyond_are_shown(bad: Verdict):
    asked: list[tuple[int, int]] = []
    results = {1: [MET], 5: [bad, MET], 10: [bad, bad], 20: [MET], 40: [bad], 80: [bad]}
    assert climb(results, scripted(results, asked)) == 5
    assert asked == [(1, 0), (5, 0), (5, 1), (10, 0), (10, 1), (20, 0), (40, 0)]
    assert (TRIES, BEYOND) == (2, 2)


def test_a_server_that_fails_alone_serves_none():
    assert climb([1, 5], lambda streams, attempt: FAILED) == 0


# --- what is spoken -----------------------------------------------------------------------------------------------------


def test_every_stream_speaks_all_sentences_and_begins_with_another():
    clips = [Clip(np.full(16_000 * n, n, np.int16), f"s{n}", 160, 16_000 * n - 160) for n in (1, 2, 3)]
    one, other = script(clips, 1.5), script(clips, 1.5, 4)
    assert one.texts == ["s1", "s2", "s3"]
    assert other.texts == ["s2", "s3", "s1"]
    assert len(one.audio) == len(other.audio)
    for text, (begin, end) in zip(other.texts, other.spans, strict=True):
        assert set(other.audio[begin:end].tolist()) == {int(text[1])}
    assert script(clips, 0.1, rounds=2).texts == one.texts * 2
    assert len(enough(clips, 5.9, 1.5)) == 2
    with pytest.raises(ValueError, match="do not fill"):
        enough(clips, 60, 1.5)
