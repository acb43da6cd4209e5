"""Transcripts of whole recordings, as files that other programs read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.batch.subtitles import FORMATS, LINE_WORDS

Final = dict[str, Any]


def final(text: str, start: float, duration: float, *words: tuple[str, float, float]) -> Final:
    said = [{"word": w, "start": a, "end": b, "confidence": 0.9} for w, a, b in words]
    return {"type": "final", "transcript": text, "start": start, "duration": duration, "words": said}


TWO = [
    final("The train leaves.", 0.98, 1.2, ("The", 1.0, 1.25), ("train", 1.25, 1.6), ("leaves.", 1.6, 2.0)),
    final("", 3.0, 0.5),
    final("At half past three — größer.", 3661.5, 2.25),
]

TXT = """\
The train leaves.
At half past three — größer.
"""

SRT = """\
1
00:00:01,000 --> 00:00:02,000
The train leaves.

2
01:01:01,500 --> 01:01:03,750
At half past three — größer.

"""

VTT = """\
WEBVTT

00:00:01.000 --> 00:00:02.000
The train leaves.

01:01:01.500 --> 01:01:03.750
At half past three — größer.

"""


@pytest.mark.parametrize(("name", "expected"), [("txt", TXT), ("srt", SRT), ("vtt", VTT)])
def test_words_give_the_times_where_there_are_any_and_empty_finals_give_nothing(name: str, expected: str):
    assert FORMATS[name](TWO) == expected


def test_json_holds_the_whole_text_and_every_final_as_it_came():
    written = FORMATS["json"](TWO)
    assert written.endswith("}\n")
    assert json.loads(written) == {"text": "The train leaves. At half past three — größer.", "segments": TWO}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("json", '{\n "text": "",\n "segments": []\n}\n')],
)
def test_a_recording_without_speech_is_still_a_valid_file(name: str, expected: str):
    assert FORMATS[name]([]) == expected


def long_final(n_words: int, start: float = 0.0) -> Final:
    words = [(f"w{i}", start + i * 0.5, start + i * 0.5 + 0.4) for i in range(n_words)]
    return final(" ".join(w for w, _, _ in words), start, n_words * 0.5, *words)


def test_a_long_final_is_split_into_cues_of_about_the_same_length():
    assert FORMATS["srt"]([long_final(14)]) == (
        "1\n00:00:00,000 --> 00:00:03,400\nw0 w1 w2 w3 w4 w5 w6\n\n"
        "2\n00:00:03,500 --> 00:00:06,900\nw7 w8 w9 w10 w11 w12 w13\n\n"
    )


@pytest.mark.parametrize("n_words", [1, 11, 12, 13, 24, 25, 40, 100])
def test_no_cue_is_longer_than_two_lines_and_no_word_is_lost(n_words: int):
    cues = FORMATS["vtt"]([long_final(n_words)]).split("\n\n")[1:-1]
    words = [cue.split("\n")[1].split() for cue in cues]
    assert [w for cue in words for w in cue] == [f"w{i}" for i in range(n_words)]
    assert max(len(cue) for cue in words) <= LINE_WORDS
    assert max(len(cue) for cue in words) - min(len(cue) for cue in words) <= len(words)


def test_a_cue_of_no_length_is_shown_for_a_moment():
    assert "00:00:02.000 --> 00:00:02.100" in FORMATS["vtt"]([final("Hm.", 1.9, 0.3, ("Hm.", 2.0, 2.0))])


@given(st.lists(st.floats(0, 100_000), min_size=2, max_size=2))
def test_every_time_is_written_in_the_form_of_its_format(times: list[float]):
    start, end = sorted(times)
    one = [final("x", start, end - start)]
    clock = r"\d\d+:[0-5]\d:[0-5]\d{}\d\d\d"
    for name, mark in (("srt", ","), ("vtt", "\\.")):
        arrow = clock.format(mark) + " --> " + clock.format(mark)
        assert re.search(f"^{arrow}$", FORMATS[name](one), re.MULTILINE)


@given(st.floats(0, 100_000))
def test_a_clock_reads_back_as_the_time_it_was_written_from(seconds: float):
    first = FORMATS["vtt"]([final("x", seconds, 1.0)]).split("\n")[2].split(" ")[0]
    hours, minutes, rest = first.split(":")
    assert int(hours) * 3600 + int(minutes) * 60 + float(rest) == pytest.approx(seconds, abs=0.000_51)
