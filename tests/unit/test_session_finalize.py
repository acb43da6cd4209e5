"""A client asks for what was said, or leaves: each request gets its own final, and nothing heard is lost."""

from __future__ import annotations

import pytest

from frontend.speech.events import Decode, Finished, SpeechEnded, SpeechStarted
from frontend.speech.settings import SessionSettings
from frontend.speech.vad_gate import FRAME
from tests.unit.driver import Driver, speech
from tests.unit.session_speech import SECOND, VAD, utterance

# --- finalize -------------------------------------------------------------------------------------------------------


def test_finalize_in_the_middle_of_speech_gives_what_was_said_so_far():
    d = Driver(speech((1.0, 2 * SECOND), (0.0, SECOND)))
    d.frames(SECOND)
    d.audio(100)
    d.finalize()
    assert [(f.start, f.end, f.requested) for f in d.finals] == [(0, SECOND * FRAME + 100, True)]
    d.all_audio()
    d.close()
    assert d.windows[1][0] == SECOND * FRAME + 100
    assert [f.requested for f in d.finals] == [True, False]


def test_finalize_with_nothing_said_gives_one_empty_final():
    d = Driver([])
    d.frames(10)
    d.finalize()
    assert [(f.text, f.words, f.requested, f.end - f.start) for f in d.finals] == [("", (), True, 0)]
    assert d.decodes == []


def test_what_lies_before_a_finalize_does_not_come_again_as_pre_roll():
    d = Driver(speech((0.0, 20), (1.0, 10), (0.0, SECOND)))
    d.frames(20)
    d.finalize()
    d.all_audio()
    assert [f.start for f in d.finals] == [20 * FRAME, 20 * FRAME]


def test_finalize_before_any_audio_gives_one_empty_final():
    d = Driver([])
    d.finalize()
    assert [(f.text, f.start, f.end) for f in d.finals] == [("", 0, 0)]


def test_each_of_two_finalizes_in_a_row_gets_its_own_final():
    for at_once in (True, False):
        d = Driver(speech((1.0, SECOND)), at_once=at_once)
        d.frames(SECOND)
        d.finalize()
        d.finalize()
        d.settle()
        assert [(bool(f.text), f.requested) for f in d.finals] == [(True, True), (False, True)]
        assert [f.segment for f in d.finals] == [1, 2]


@pytest.mark.parametrize("vad_enabled", [True, False])
def test_the_empty_final_of_a_second_finalize_does_not_lie_before_the_end_of_the_first(vad_enabled: bool):
    d = Driver(speech((1.0, SECOND)), SessionSettings(vad_enabled=vad_enabled))
    d.frames(10)
    d.audio(200)
    d.finalize()
    d.finalize()
    first, second = d.finals
    assert first.end == 10 * FRAME + 200
    assert second.start >= first.end


def test_finalize_while_a_final_is_running_is_answered_after_it():
    d = Driver(utterance(), SessionSettings(speculate=False), at_once=False)
    while not (d.asr and d.asr.command is Decode.FINAL):
        d.audio(FRAME)
        d.answer_vad()
        if d.asr and d.asr.command is Decode.PARTIAL:
            d.answer_asr()
    d.finalize()
    assert d.finals == []
    d.settle()
    assert [(bool(f.text), f.requested) for f in d.finals] == [(True, False), (False, True)]


def test_finalize_waits_until_the_vad_has_heard_everything_before_it():
    d = Driver(speech((0.0, 10), (1.0, 20)), at_once=False)
    d.audio(3 * FRAME)
    d.audio(27 * FRAME)
    d.finalize()
    assert d.finals == []
    d.settle()
    assert [(f.end, f.requested) for f in d.finals] == [(30 * FRAME, True)]


def test_audio_that_comes_while_a_finalize_waits_belongs_to_the_next_final():
    d = Driver(speech((1.0, 60)), at_once=False)
    d.audio(20 * FRAME)
    d.finalize()
    d.audio(40 * FRAME)
    d.settle()
    d.close()
    assert d.windows == [(0, 20 * FRAME), (20 * FRAME, 60 * FRAME)]


def test_a_finalize_is_answered_although_audio_keeps_coming_faster_than_the_vad_answers():
    d = Driver(speech((1.0, 300)), at_once=False)
    d.frames(20)
    d.finalize()
    for _ in range(20):
        d.audio(2 * FRAME)
        d.answer_vad()
        d.answer_asr()
    assert [(f.end, f.requested) for f in d.finals] == [(20 * FRAME, True)]


def test_speech_goes_on_being_heard_after_a_finalize_that_had_to_wait():
    d = Driver(speech((1.0, 20), (0.0, 40)), at_once=False)
    d.audio(3 * FRAME)
    d.audio(7 * FRAME)
    d.finalize()
    d.audio(50 * FRAME)
    d.settle()
    assert d.core.needed_from > 20 * FRAME, "nobody asked the VAD about what came after the finalize"
    assert d.turns == [
        SpeechStarted(0), SpeechEnded(10 * FRAME), SpeechStarted(10 * FRAME), SpeechEnded(20 * FRAME)
    ]  # fmt: skip


def test_one_loud_frame_just_before_finalize_is_decoded():
    d = Driver(speech((0.0, 20), (1.0, 1)))
    d.frames(21)
    d.finalize()
    assert d.turns == [SpeechStarted(20 * FRAME), SpeechEnded(21 * FRAME)]
    assert d.windows == [(21 * FRAME - FRAME - VAD.pre_roll, 21 * FRAME)]


def test_the_tail_after_speech_is_not_longer_than_what_was_received():
    d = Driver(speech((1.0, 10)))
    d.frames(12)
    d.finalize()
    assert d.windows == [(0, 12 * FRAME)]


# --- close ----------------------------------------------------------------------------------------------------------


def test_the_last_words_before_a_close_get_their_final():
    d = Driver(speech((1.0, 10)))
    d.frames(10)
    d.close()
    assert d.windows == [(0, 10 * FRAME)]
    assert d.finals[0].requested
    assert isinstance(d.events[-1], Finished)


def test_a_close_with_nothing_said_is_only_finished():
    d = Driver([])
    d.close()
    assert d.events == [Finished()]


def test_a_rest_shorter_than_a_frame_belongs_to_the_last_final():
    d = Driver(speech((1.0, 100)))
    d.frames(10)
    d.audio(FRAME - 1)
    d.close()
    assert d.windows == [(0, 11 * FRAME - 1)]


def test_a_close_waits_for_the_vad_a_partial_and_every_final():
    d = Driver(utterance(10) * 3 + speech((1.0, SECOND)), at_once=False)
    while d.core.received < len(d.probabilities) * FRAME:
        d.audio(FRAME)
        d.answer_vad()
    d.finalize()
    d.close()
    assert d.events[-1] == Finished()
    assert d.n_finished == 1
    assert len(d.windows) == 4


def test_a_close_after_the_close_tells_nothing_again():
    d = Driver(utterance())
    d.all_audio()
    d.close()
    told = list(d.events)
    d.close()
    assert d.events == told
