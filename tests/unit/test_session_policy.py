"""What is settled stays, finals come early, long speech is cut between words, the engine's lag thins partials out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given

from frontend.speech.events import (
    Decode,
    Final,
    Flushed,
    Hypothesis,
    NothingSaid,
    Partial,
    RunAsr,
    SpeechEnded,
    SpeechStarted,
    UtteranceEnded,
    Word,
)
from frontend.speech.settings import RATE, SessionSettings
from frontend.speech.vad_gate import FRAME, VadSettings
from tests.unit.driver import PIECE, Driver, speech, window_as_text
from tests.unit.test_session_properties import Scenario, play, scenarios

SECOND = -(-RATE // FRAME)
VAD = VadSettings()


def changing(request: RunAsr) -> Hypothesis:
    """Words on a grid of the stream; what is not settled is heard differently at each look."""
    first = -(-request.start // PIECE)
    grid = range(first * PIECE, request.end - PIECE // 2, PIECE)
    n = len(request.prefix)
    tokens = (*request.prefix, *(k * 1000 + (request.end // 30_000) % 3 for k in range(first + n, first + len(grid))))
    tokens = tokens[: max(n, len(grid))]
    words = tuple(
        Word(f" {t}", at - request.start, min(at + PIECE, request.end) - request.start, 0.9)
        for t, at in zip(tokens, itertools.count(first * PIECE, PIECE), strict=False)
    )
    return Hypothesis("".join(w.text for w in words), tokens, (-0.1,) * len(tokens), words, (1,) * len(tokens))


def words_by_segment(d: Driver) -> dict[int, list[tuple[list[str], int]]]:
    """For each segment what was told of it in order: words, and how many of them were settled."""
    told: dict[int, list[tuple[list[str], int]]] = {}
    for e in d.events:
        if isinstance(e, Partial | Final):
            words = [w.text for w in e.words]
            told.setdefault(e.segment, []).append((words, e.n_stable if isinstance(e, Partial) else len(words)))
    return told


def carried_over(d: Driver) -> None:
    """Settled words stay, within a segment and beyond a cut."""
    settled: list[str] = []
    for e in d.events:
        if not isinstance(e, Partial | Final):
            continue
        words = [w.text for w in e.words]
        if isinstance(e, Final) and not e.ends_utterance:
            assert words == settled[: len(words)] or settled == words[: len(settled)]
            settled = settled[len(words) :]
            continue
        assert words[: len(settled)] == settled
        settled = [] if isinstance(e, Final) else words[: e.n_stable]


# --- settled words --------------------------------------------------------------------------------------------------


@given(scenarios())
def test_settled_words_never_change(scenario: Scenario):
    carried_over(play(scenario, answer=changing))


def test_words_are_settled_while_speech_goes_on():
    d = Driver(speech((0.0, 10), (1.0, 8 * SECOND), (0.0, SECOND)), answer=changing)
    d.all_audio()
    assert max(p.n_stable for p in d.partials) > 20
    carried_over(d)


def test_settled_tokens_are_forced_in_the_final():
    d = Driver(speech((1.0, 4 * SECOND), (0.0, SECOND)), answer=changing)
    d.all_audio()
    (last,) = (r for r in d.decodes if r.command is Decode.FINAL)
    assert len(last.prefix) == d.partials[-1].n_stable > 0


def test_the_last_word_is_not_settled():
    d = Driver(speech((1.0, 4 * SECOND)))
    d.all_audio()
    assert all(p.n_stable < len(p.words) for p in d.partials)


# --- finals decoded ahead -------------------------------------------------------------------------------------------


def test_the_final_is_there_when_the_endpoint_is():
    d = Driver(speech((1.0, 2 * SECOND), (0.0, SECOND)), at_once=False)
    while not any(isinstance(e, SpeechEnded) for e in d.events):
        d.audio(FRAME)
        d.answer_vad()
        d.answer_asr()
    assert [type(e) for e in d.events[-2:]] == [SpeechEnded, Final]
    assert d.asr is None


def test_a_final_decoded_ahead_is_thrown_away_when_speech_goes_on():
    d = Driver(speech((1.0, SECOND), (0.0, 10), (1.0, SECOND), (0.0, SECOND)))
    d.all_audio()
    ahead = [r for r in d.decodes if r.command is Decode.FINAL]
    assert [r.end for r in ahead] == [SECOND * FRAME + VAD.tail, (2 * SECOND + 10) * FRAME + VAD.tail]
    assert [(f.start, f.end) for f in d.finals] == [(0, ahead[1].end)]


def test_a_final_under_way_at_the_endpoint_is_not_asked_for_again():
    d = Driver(speech((1.0, SECOND), (0.0, SECOND)), at_once=False)
    for _ in range(2 * SECOND):
        d.audio(FRAME)
        d.answer_vad()
        if d.asr and d.asr.command is Decode.PARTIAL:
            d.answer_asr()
    assert d.asr
    assert d.finals == []
    d.answer_asr()
    assert len(d.finals) == 1
    assert sum(r.command is Decode.FINAL for r in d.decodes) == 1


@given(scenarios())
def test_decoding_ahead_changes_no_window(scenario: Scenario):
    plain = replace(scenario, settings=replace(scenario.settings, speculate=False))
    assert play(scenario).windows == play(plain).windows


# --- cuts -----------------------------------------------------------------------------------------------------------


@given(scenarios(finalizes=False))
def test_the_words_of_long_speech_are_told_once_each_and_in_order(scenario: Scenario):
    def answer(request: RunAsr) -> Hypothesis:
        """The words of the stream that lie wholly in the window, with the times they have."""
        first, last = -(-request.start // PIECE), request.end // PIECE
        grid = range(first, last)
        words = tuple(Word(f" {k}", k * PIECE - request.start, (k + 1) * PIECE - request.start, 0.9) for k in grid)
        return Hypothesis("".join(w.text for w in words), tuple(grid), (-0.1,) * len(grid), words, (1,) * len(grid))

    # Probabilities that do not move the cut: it falls where two words meet.
    flat = [(1.0 if p >= 0.5 else 0.0, n) for p, n in scenario.runs]
    settings = replace(scenario.settings, vad=replace(scenario.settings.vad, pre_roll=0))
    finals = play(replace(scenario, runs=flat, settings=settings), answer=answer).finals
    words = [w for f in finals for w in f.words]
    assert [int(w.text) for w in words] == sorted({int(w.text) for w in words})
    assert all(a.end <= b.start for a, b in itertools.pairwise(words)), "nor are two spoken at the same time"
    assert all(w.end <= f.end for f in finals for w in f.words)


def test_speech_without_a_pause_is_cut_where_it_is_quietest_between_words():
    quiet_at = 9 * SECOND
    d = Driver(speech((1.0, quiet_at), (0.6, 3), (1.0, 5 * SECOND), (0.0, SECOND)))
    d.all_audio()
    first, second = d.finals
    assert not first.ends_utterance
    assert second.ends_utterance
    assert first.end == second.start
    assert abs(first.end - quiet_at * FRAME) <= 4 * FRAME
    assert 0 <= second.words[0].start - first.words[-1].end < 3 * FRAME


def test_what_was_said_before_a_cut_is_told_to_the_model():
    d = Driver(speech((1.0, 14 * SECOND), (0.0, SECOND)))
    d.all_audio()
    assert d.decodes[0].context == ()
    assert d.decodes[-1].context == tuple(range(len(d.finals[0].words)))


def test_an_hour_of_speech_without_a_pause_is_cut_into_windows_that_join():
    d = Driver(speech((1.0, 3600 * SECOND)), SessionSettings(interim_results=False))
    d.all_audio()
    d.close()
    assert all(a[1] == b[0] for a, b in itertools.pairwise(d.windows))
    assert all(b - a <= 11 * RATE for a, b in d.windows[:-1])
    assert d.core.received - d.core.needed_from <= 12 * RATE


# --- words that nobody said -----------------------------------------------------------------------------------------


def test_a_word_in_silence_is_dropped():
    def answer(request: RunAsr) -> Hypothesis:
        n = request.end - request.start
        words = (Word(" Hello", 4_800, 12_000, 0.9), Word(" there.", n - 1_500, n, 0.9))
        return Hypothesis(" Hello there.", (1, 2), (-0.1, -0.1), words, (1, 1))

    d = Driver(speech((0.0, 20), (1.0, 15), (0.0, SECOND)), SessionSettings(vad=replace(VAD, tail=8_000)), answer=answer)
    d.all_audio()
    assert [f.text for f in d.finals] == ["Hello"]


# --- the engine's lag -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lag_frames", "fewest", "most"), [(1, 17, 25), (30, 5, 10), (90, 2, 4)])
def test_partials_give_way_when_the_engine_is_slow(lag_frames: int, fewest: int, most: int):
    d = Driver(speech((1.0, 10 * SECOND)), at_once=False)
    waited = 0
    for _ in range(10 * SECOND):
        d.audio(FRAME)
        d.answer_vad()
        waited = waited + 1 if d.asr else 0
        if waited >= lag_frames:
            d.answer_asr()
    assert fewest <= len(d.partials) <= most


# --- the end of an utterance ----------------------------------------------------------------------------------------


def test_the_end_of_an_utterance_is_told_after_its_final_once():
    d = Driver(speech((1.0, SECOND), (0.0, 4 * SECOND)), SessionSettings(utterance_end=RATE))
    d.all_audio()
    kinds = [type(e) for e in d.events if not isinstance(e, Partial)]
    assert kinds == [SpeechStarted, SpeechEnded, Final, UtteranceEnded]
    assert d.events[-1] == UtteranceEnded(d.finals[0].words[-1].end)


def test_speech_that_goes_on_in_time_has_not_ended():
    said = speech((1.0, SECOND), (0.0, 20), (1.0, SECOND), (0.0, 2 * SECOND))
    d = Driver(said, SessionSettings(utterance_end=RATE))
    d.all_audio()
    assert len(d.finals) == 2
    assert sum(isinstance(e, UtteranceEnded) for e in d.events) == 1


def test_without_endpoints_the_end_of_an_utterance_still_ends_a_segment():
    patient = SessionSettings(vad=replace(VAD, endpoint=60 * RATE), utterance_end=RATE)
    d = Driver(speech((1.0, SECOND), (0.0, 3 * SECOND)), patient)
    d.all_audio()
    assert [type(e) for e in d.events[-3:]] == [SpeechEnded, Final, UtteranceEnded]


# --- discard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vad_enabled", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_discarded_gets_no_final_and_what_follows_does(vad_enabled: bool, at_once: bool):
    d = Driver(speech((1.0, 5 * SECOND)), SessionSettings(vad_enabled=vad_enabled), at_once=at_once)
    d.frames(2 * SECOND)
    d._carry_out(d.core.discard())
    d.frames(2 * SECOND)
    d.finalize()
    d.settle()
    (final,) = d.finals
    assert final.start >= 2 * SECOND * FRAME - VAD.pre_roll
    assert final.end == 4 * SECOND * FRAME
    d.close()


def test_a_finalize_and_a_discard_tell_their_place():
    d = Driver(speech((1.0, SECOND), (0.0, 4 * SECOND)))
    d.frames(SECOND)
    d.finalize()
    d.frames(SECOND)
    d.finalize()
    d._carry_out(d.core.discard())
    told = [(e.at, e.discarded, e.ended) for e in d.events if isinstance(e, Flushed)]
    assert told == [
        (SECOND * FRAME, False, True), (2 * SECOND * FRAME, False, False), (2 * SECOND * FRAME, True, False),
    ]  # fmt: skip


def test_an_utterance_without_words_is_told_to_have_none():
    d = Driver(speech((1.0, SECOND), (0.0, 2 * SECOND)), answer=lambda _: Hypothesis(""))
    d.all_audio()
    assert [type(e) for e in d.events] == [SpeechStarted, SpeechEnded, NothingSaid]


def test_an_utterance_that_ends_with_its_cut_is_told_to_have_no_more():
    full = 4 * RATE
    one_word = Hypothesis(" one", (1,), (-0.1,), (Word(" one", 0, 3 * RATE, 0.9),), (1,))
    settings = SessionSettings(max_segment=full, split_after=60 * RATE)
    d = Driver(speech((1.0, full // FRAME - 3), (0.0, 2 * SECOND)), settings, answer=lambda _: one_word)
    d.all_audio()
    told = [e for e in d.events if isinstance(e, Final | SpeechEnded | NothingSaid)]
    assert [type(e) for e in told] == [Final, SpeechEnded, NothingSaid]
    assert not told[0].ends_utterance


# --- languages ------------------------------------------------------------------------------------------------------


def spoken_in(*languages: str):
    """An answer in the language of the second that the window begins in."""

    def answer(request: RunAsr) -> Hypothesis:
        found = request.language or languages[request.start // (4 * RATE)]
        return replace(window_as_text(request), language=found, language_probability=0.9)

    return answer


TWO = speech((0.0, 10), (1.0, 2 * SECOND), (0.0, 2 * SECOND), (0.0, 10), (1.0, 2 * SECOND), (0.0, SECOND))


def test_a_language_is_found_once_and_kept():
    d = Driver(TWO, SessionSettings(find_language="once"), answer=spoken_in("de", "fr"))
    d.all_audio()
    assert [f.language for f in d.finals] == ["de", "de"]
    assert d.decodes[0].language is None
    assert d.decodes[-1].language == "de"


def test_a_language_is_found_for_each_utterance():
    d = Driver(TWO, SessionSettings(find_language="each"), answer=spoken_in("de", "fr"))
    d.all_audio()
    assert [f.language for f in d.finals] == ["de", "fr"]
    assert d.finals[1].language_probability == 0.9


def test_a_language_found_in_too_little_audio_is_not_kept():
    d = Driver(speech((1.0, 8), (0.0, SECOND)), SessionSettings(find_language="once"), answer=spoken_in("de"))
    d.all_audio()
    assert all(r.language is None for r in d.decodes)


def test_a_language_found_late_holds_for_what_was_said_meanwhile():
    d = Driver(TWO, SessionSettings(find_language="once"), at_once=False, answer=spoken_in("de", "fr"))
    for _ in TWO:  # audio comes faster than the engine answers: the second utterance begins before the first has a language
        d.frames(1)
        d.answer_vad()
    assert not d.finals
    d.settle()
    assert [f.language for f in d.finals] == ["de", "de"]


# --- pauses in long speech ------------------------------------------------------------------------------------------


def test_a_short_pause_parts_a_long_segment_and_its_final_needs_no_further_decode():
    d = Driver(speech((1.0, 6 * SECOND), (0.0, 10), (1.0, SECOND), (0.0, SECOND)))
    d.all_audio()
    first, second = d.finals
    assert (first.ends_utterance, second.ends_utterance) == (False, True)
    assert first.end == 6 * SECOND * FRAME + VAD.tail
    assert first.end <= second.start <= (6 * SECOND + 10) * FRAME
    assert sum(r.command is Decode.FINAL for r in d.decodes) == 2
    assert [type(t) for t in d.turns] == [SpeechStarted, SpeechEnded]


def test_a_short_pause_leaves_a_short_segment_whole():
    d = Driver(speech((1.0, 2 * SECOND), (0.0, 10), (1.0, SECOND), (0.0, SECOND)))
    d.all_audio()
    assert len(d.finals) == 1
