"""One session, step by step: what is told, in which order, with which windows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from frontend.speech.events import Decode, Final, Finished, Hypothesis, Partial, RunAsr, SpeechEnded, SpeechStarted, Word
from frontend.speech.settings import RATE, SessionSettings
from frontend.speech.vad_gate import FRAME, VadSettings
from tests.unit.driver import Driver, speech, window_as_text
from tests.unit.session_speech import SECOND, VAD, utterance

# --- one utterance --------------------------------------------------------------------------------------------------


def test_an_utterance_is_started_heard_ended_and_settled_in_this_order():
    d = Driver(utterance())
    d.all_audio()
    d.close()
    kinds = [type(e) for e in d.events]
    assert kinds[0] is SpeechStarted
    assert kinds[-3:] == [SpeechEnded, Final, Finished]
    assert set(kinds[1:-3]) == {Partial}


def test_started_and_ended_tell_where_speech_was_and_the_final_reaches_around_it():
    d = Driver(utterance())
    d.all_audio()
    first, last = SECOND * FRAME, 2 * SECOND * FRAME
    assert d.turns == [SpeechStarted(first), SpeechEnded(last)]
    assert d.windows == [(first - VAD.pre_roll, last + VAD.tail)]
    assert not d.finals[0].requested


def test_pre_roll_does_not_reach_before_the_stream():
    d = Driver(speech((1.0, 10), (0.0, SECOND)))
    d.all_audio()
    assert d.finals[0].start == 0


def test_pre_roll_does_not_take_audio_of_the_utterance_before():
    quick = SessionSettings(vad=replace(VAD, endpoint=3 * FRAME + VAD.late))
    d = Driver(speech((1.0, 20), (0.0, 4), (1.0, 20), (0.0, 10)), quick)
    d.all_audio()
    (_, first_end), (second_start, _) = d.windows
    assert first_end == second_start == 23 * FRAME


def test_times_of_words_count_from_the_start_of_the_stream():
    words = (Word(" Hello", 100, 900, 0.9), Word(" there.", 900, 1_700, 0.5))
    d = Driver(utterance(), answer=lambda _: Hypothesis(" Hello there. ", (1, 2), (-0.1, -0.2), words))
    d.all_audio()
    final = d.finals[0]
    assert final.text == "Hello there."
    assert final.words == (
        Word("Hello", final.start + 100, final.start + 900, 0.9),
        Word("there.", final.start + 900, final.start + 1_700, 0.5),
    )
    assert final.confidence == pytest.approx(0.7)


def test_a_final_carries_the_tokens_of_the_words_that_it_tells():
    settings = SessionSettings(interim_results=False, speculate=False, vad=VadSettings(pre_roll=4_800))
    # The second word lies in a pause, the last one in the tail, where nobody spoke.
    texts = {" So": (4_800, 9_000), " um": (18_000, 18_200), " hello": (22_000, 28_000), " you.": (33_500, 33_900)}
    words = tuple(Word(text, start, end, 0.9) for text, (start, end) in texts.items())
    heard = Hypothesis("".join(texts), (1, 2, 3, 4, 5), (-0.1, -0.2, -0.3, -0.4, -0.5), words, (1, 1, 2, 1), 0.05)
    d = Driver(speech((0.0, SECOND), (1.0, 20), (0.0, 12), (1.0, 20), (0.0, SECOND)), settings, answer=lambda _: heard)
    d.all_audio()
    final = d.finals[0]
    assert final.text == "So hello"
    assert (final.tokens, final.logprobs, final.word_tokens) == ((1, 3, 4), (-0.1, -0.3, -0.4), (1, 2))
    assert final.no_speech_probability == 0.05


def test_a_text_without_words_carries_all_its_tokens():
    d = Driver(utterance(), answer=lambda _: Hypothesis("Hello.", (1, 2), (-0.1, -0.2)))
    d.all_audio()
    assert (d.finals[0].tokens, d.finals[0].logprobs, d.finals[0].word_tokens) == ((1, 2), (-0.1, -0.2), ())


def test_silence_is_never_decoded_and_nothing_is_told_of_it():
    d = Driver([])
    d.frames(60 * SECOND)
    d.close()
    assert d.decodes == []
    assert d.events == [Finished()]


# --- partials -------------------------------------------------------------------------------------------------------


def test_partials_come_while_speech_goes_on_and_not_in_the_silence_after_it():
    d = Driver(utterance(n_frames=3 * SECOND))
    d.all_audio()
    assert [p.start for p in d.partials] == [d.finals[0].start] * len(d.partials)
    assert [p.end for p in d.partials] == sorted({p.end for p in d.partials})
    last = 4 * SECOND * FRAME
    assert all(p.end <= last + 2 * FRAME + 3 * FRAME or p.end == last + VAD.tail for p in d.partials)
    assert 6 <= len(d.partials) <= 8  # soon after the start, then every 500 ms of three seconds, and the final ahead


def test_the_first_partial_comes_sooner_than_the_next():
    d = Driver(utterance(n_frames=2 * SECOND))
    d.all_audio()
    first, second = d.partials[:2]
    at = d.turns[0].at
    assert SessionSettings().first_partial <= first.end - at <= SessionSettings().first_partial + 3 * FRAME
    assert SessionSettings().partial_interval <= second.end - first.end <= SessionSettings().partial_interval + 3 * FRAME


def test_without_interim_results_only_finals_are_decoded():
    d = Driver(utterance(), SessionSettings(interim_results=False))
    d.all_audio()
    assert [r.command for r in d.decodes] == [Decode.FINAL]


def test_an_empty_partial_is_not_told():
    d = Driver(utterance(), answer=lambda r: Hypothesis("  ") if r.command is Decode.PARTIAL else window_as_text(r))
    d.frames(2 * SECOND)
    assert d.partials == []
    d.all_audio()
    assert len(d.finals) == 1


def test_a_partial_ends_before_the_first_word_that_is_only_guessed_and_a_final_does_not():
    def answer(request: RunAsr) -> Hypothesis:
        words = tuple(
            Word(f" {t}", i * 6_000, i * 6_000 + 5_000, c)
            for i, (t, c) in enumerate([("So", 0.9), ("sue", 0.05), ("me", 0.9)])
        )
        return Hypothesis(" So sue me", (1, 2, 3), (-0.3,) * 3, words, (1, 1, 1))

    d = Driver(utterance(), answer=answer)
    d.all_audio()
    d.close()
    unsettled = [p for p in d.partials if p.n_stable == 0]
    assert unsettled
    assert {p.text for p in unsettled} == {"So"}
    assert {len(p.words) for p in unsettled} == {1}
    assert all(p.confidence == pytest.approx(0.9) for p in unsettled)
    assert [f.text for f in d.finals] == ["So sue me"]


def test_a_partial_that_comes_after_its_segment_ended_is_not_told():
    d = Driver(utterance(), at_once=False)
    for _ in range(3 * SECOND):
        d.audio(FRAME)
        d.answer_vad()
    assert d.asr
    assert d.asr.command is Decode.PARTIAL
    d.close()
    assert d.partials == []
    assert len(d.finals) == 1


def test_a_partial_that_comes_when_the_next_segment_has_begun_is_not_told():
    d = Driver(utterance(SECOND) + utterance(10), at_once=False)
    for _ in range(4 * SECOND + 5):
        d.audio(FRAME)
        d.answer_vad()
    assert [type(t) for t in d.turns] == [SpeechStarted, SpeechEnded, SpeechStarted]
    assert d.asr
    assert d.asr.command is Decode.PARTIAL
    d.answer_asr()
    assert d.partials == []


GUESS = Hypothesis(" So", (1,), (-0.9,), (Word(" So", 0, 3_000, 0.05),), (1,))


@pytest.mark.parametrize("nothing", [Hypothesis(""), Hypothesis("So", (1,), (-3.0,)), GUESS])
def test_first_partials_without_a_word_are_followed_soon_but_not_for_ever(nothing: Hypothesis):
    deaf = Driver(utterance(), answer=lambda r: nothing if r.command is Decode.PARTIAL else window_as_text(r))
    deaf.all_audio()
    ends = [r.end for r in deaf.decodes if r.command is Decode.PARTIAL]
    one, two, *others = [b - a for a, b in itertools.pairwise(ends)]
    settings = deaf.core.settings
    assert max(one, two) <= settings.first_partial + settings.vad_chunk
    assert min(others) >= settings.partial_interval


def test_partials_that_fail_hold_up_neither_the_next_ones_nor_the_final():
    failing = Driver(utterance(), answer=lambda r: None if r.command is Decode.PARTIAL else window_as_text(r))
    answered = Driver(utterance())
    for d in (failing, answered):
        d.all_audio()
        d.close()
    assert len(failing.partials) == 1  # the final that was decoded ahead
    assert [(r.start, r.end) for r in failing.decodes] == [(r.start, r.end) for r in answered.decodes]
    assert failing.finals == answered.finals


def test_the_confidence_of_a_partial_is_the_geometric_mean_of_its_tokens():
    d = Driver(utterance(), answer=lambda _: Hypothesis("a b", (1, 2), (-0.1, -0.3)))
    d.all_audio()
    assert d.partials[0].confidence == pytest.approx(2.718281828**-0.2)


# --- finals that wait -----------------------------------------------------------------------------------------------


def test_finals_wait_for_their_turn_and_come_in_order():
    d = Driver(utterance(10) * 5, at_once=False)
    while d.core.received < len(d.probabilities) * FRAME:
        d.audio(FRAME)
        d.answer_vad()
    assert d.finals == []
    assert d.core.running_finals >= 4
    d.close()
    assert len(d.finals) == 5
    assert d.windows == sorted(d.windows)
    assert d.core.running_finals == 0


def test_a_final_goes_before_the_next_partial():
    d = Driver(utterance(10) + utterance(3 * SECOND, before=0), at_once=False)
    while d.core.received < len(d.probabilities) * FRAME:
        d.audio(FRAME)
        d.answer_vad()
        if d.asr and d.asr.command is Decode.PARTIAL:
            d.answer_asr()
    assert d.asr is not None
    assert d.asr.command is Decode.FINAL
    assert d.asr.segment == 1


def test_a_final_whose_decode_gave_nothing_still_answers_a_request():
    d = Driver(utterance(), answer=lambda _: None)
    d.frames(2 * SECOND - 5)
    d.finalize()
    assert [(f.text, f.requested) for f in d.finals] == [("", True)]


# --- invented text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("no_speech", "logprob", "told"),
    [(0.9, -1.1, False), (0.9, -0.2, True), (0.1, -1.1, True), (0.1, -0.2, True), (0.1, -2.0, False)],
)
def test_a_text_is_taken_for_invented_when_silent_and_unlikely_or_very_unlikely(
    no_speech: float, logprob: float, told: bool
):
    words = (Word("Thanks", 0, 100, 0.2),)
    d = Driver(utterance(), answer=lambda _: Hypothesis("Thanks", (1,), (logprob,), words, (1,), no_speech))
    d.all_audio()
    assert [f.text for f in d.finals] == (["Thanks"] if told else [])


@pytest.mark.parametrize(
    ("confidences", "told"), [((0.09,), False), ((0.1, 0.14), False), ((0.1, 0.16), True), ((0.16,), True)]
)
def test_a_text_without_a_word_that_could_be_believed_is_taken_for_invented(confidences: tuple[float, ...], told: bool):
    words = tuple(Word(f" w{i}", 0, 100, c) for i, c in enumerate(confidences))
    text, one_each = "".join(w.text for w in words), (1,) * len(words)
    d = Driver(utterance(), answer=lambda _: Hypothesis(text, one_each, (-0.5,) * len(words), words, one_each))
    d.all_audio()
    assert [f.text for f in d.finals] == ([text.strip()] if told else [])


@pytest.mark.parametrize(("logprob", "confidence"), [(-0.5, 0.1), (-2.0, 0.9)])
def test_settled_words_stay_however_unlikely_the_final_is(logprob: float, confidence: float):
    def answer(request: RunAsr) -> Hypothesis:
        final = request.command is Decode.FINAL
        said, sure = ((-0.1, 0.9), (logprob, confidence))[final]
        words = (Word("So", 0, 4000, sure), Word(" much", 4000, 8000, sure))
        return Hypothesis("So much", (1, 2), (said, said), words, (1, 1))

    d = Driver(utterance(), answer=answer)
    d.all_audio()
    assert max(p.n_stable for p in d.partials) > 0
    assert [f.text for f in d.finals] == ["So much"]


def test_an_invented_text_that_was_asked_for_is_answered_by_an_empty_final():
    invented = Hypothesis("Thanks", (1,), (-3.0,), (Word("Thanks", 0, 100, 0.2),), (1,), 0.9)
    d = Driver(utterance(), answer=lambda _: invented)
    d.frames(SECOND + 10)
    d.finalize()
    assert [(f.text, f.words, f.confidence, f.requested) for f in d.finals] == [("", (), 0.0, True)]


# --- long speech ----------------------------------------------------------------------------------------------------


def test_speech_without_a_pause_is_cut_and_nothing_is_lost_between_the_cuts():
    long = SessionSettings()
    d = Driver(speech((1.0, 60 * SECOND), (0.0, SECOND)), long)
    d.all_audio()
    assert d.windows[0][0] == 0
    assert d.windows[-1][1] >= 60 * SECOND * FRAME
    assert all(a[1] == b[0] for a, b in itertools.pairwise(d.windows))
    assert all(b - a <= long.max_segment + FRAME for a, b in d.windows)
    assert len(d.turns) == 2, "a cut is no pause of the speaker"


def test_long_speech_is_cut_in_its_pause():
    d = Driver(speech((1.0, 7 * SECOND), (0.2, 10), (1.0, 10 * SECOND), (0.0, SECOND)))
    d.all_audio()
    assert 7 * SECOND * FRAME <= d.windows[0][1] <= (7 * SECOND + 10) * FRAME


def test_pauses_are_found_behind_pre_roll_and_behind_a_cut():
    d = Driver(speech((0.0, SECOND), *[(1.0, 8 * SECOND), (0.3, 6)] * 4, (0.0, SECOND)))
    d.all_audio()
    first_pause, period = 9 * SECOND, 8 * SECOND + 6
    for n, (_, end) in enumerate(d.windows[:3]):
        pause = first_pause + n * period
        assert pause * FRAME <= end <= (pause + 6) * FRAME


def test_partials_after_a_cut_begin_at_the_cut_under_a_new_number():
    d = Driver(speech((1.0, 20 * SECOND)))
    d.all_audio()
    cut = d.windows[0][1]
    after = [p for p in d.partials if p.segment == 2]
    assert after
    assert {p.start for p in after} == {cut}


@pytest.mark.parametrize("said_s", [10.2, 10.4, 10.6, 10.7, 10.8, 10.9])
def test_speech_that_ends_just_before_it_would_be_cut_gives_no_window_of_less_than_nothing(said_s: float):
    # The segment grows to its limit in the silence after the last word; what lies behind the cut holds no speech.
    d = Driver(speech((1.0, round(said_s * RATE / FRAME)), (0.0, 2 * SECOND)))
    d.all_audio()
    d.close()
    assert all(r.start < r.end for r in d.decodes)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(d.windows))
    assert len(d.turns) == 2


@pytest.mark.parametrize("pause_s", [4, 6, 16])
def test_a_long_hang_may_reach_over_the_longest_segment(pause_s: int):
    patient = SessionSettings(vad=replace(VAD, endpoint=5 * RATE))
    d = Driver(speech((1.0, 8 * SECOND), (0.0, pause_s * SECOND), (1.0, SECOND), (0.0, 6 * SECOND)), patient)
    d.all_audio()
    d.close()
    assert all(r.start < r.end for r in d.decodes)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(d.windows))
    assert len(d.turns) == (2 if pause_s == 4 else 4)


def test_finalize_in_a_silence_longer_than_a_window_is_answered_by_what_was_decoded_ahead():
    patient = SessionSettings(vad=replace(VAD, endpoint=5 * RATE))
    d = Driver(speech((1.0, 8 * SECOND)), patient)
    d.frames(12 * SECOND)
    n_decodes = len(d.decodes)
    d.finalize()
    assert [(bool(f.text), f.requested) for f in d.finals] == [(True, True)]
    assert len(d.decodes) == n_decodes


# --- without VAD ----------------------------------------------------------------------------------------------------


def test_without_vad_everything_is_speech_and_the_vad_is_not_asked():
    d = Driver([], SessionSettings(vad_enabled=False))
    d.frames(5 * SECOND)
    d.audio(77)
    d.close()
    assert d.windows == [(0, 5 * SECOND * FRAME + 77)]
    assert all(isinstance(a.request, RunAsr) for a in d.asked)
    assert d.partials


def test_without_vad_long_audio_is_cut_and_nothing_is_lost():
    d = Driver([], SessionSettings(vad_enabled=False))
    d.frames(30 * SECOND)
    d.close()
    assert d.windows[0][0] == 0
    assert d.windows[-1][1] == 30 * SECOND * FRAME
    assert all(a[1] == b[0] for a, b in itertools.pairwise(d.windows))


def test_without_vad_finalizes_split_the_audio_without_a_gap():
    d = Driver([], SessionSettings(vad_enabled=False))
    for n in (3_000, 5_000, 700, 9_000):
        d.audio(n)
        d.finalize()
    d.audio(2_000)
    d.close()
    assert d.windows == [(0, 3_000), (3_000, 8_000), (8_000, 8_700), (8_700, 17_700), (17_700, 19_700)]
    assert [f.requested for f in d.finals] == [True] * 5
