"""What Triton keeps of a stream: the VAD's LSTM, the audio window; each stream its own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from frontend.errors import EngineRejected, EngineUnavailable
from frontend.inference.engine import TritonEngine
from frontend.speech.events import Decode, RunAsr
from tests.engine.client import FRAME, NOTHING, alike, asr, cut, final, same, text, tokens, vad
from tests.export.checkpoints import local_session

pytestmark = pytest.mark.asyncio(loop_scope="package")

LONGEST = 12 * 16_000


# --- VAD ----------------------------------------------------------------------------------------------------------


async def test_the_vad_in_pieces_hears_what_it_hears_at_once_on_this_machine(engine, spoken, repository: Path):
    local = local_session(repository / "silero_vad" / "1" / "model.onnx")
    zeros = {f"state_{n}": np.zeros((1, size), np.float32) for n, size in (("c", 128), ("context", 64), ("h", 128))}
    for seed, audio in enumerate(spoken[:3]):
        (expected,) = local.run(["probabilities"], {"audio": audio[None], **zeros})
        stream = engine.vad_stream()
        found = [p for piece in cut(audio, seed) for p in await stream.probabilities(piece)]
        await stream.close()
        np.testing.assert_allclose(found, expected[0], atol=1e-5)
        assert max(found) > 0.9


async def test_start_empties_the_vad_state(engine: TritonEngine, spoken):
    audio, sequence = spoken[0], engine.servers[0].next_id()
    first = await vad(engine, sequence, audio, start=True)
    goes_on = await vad(engine, sequence, audio)
    again = await vad(engine, sequence, audio, start=True, end=True)
    np.testing.assert_array_equal(first, again)
    assert np.abs(goes_on[:10] - first[:10]).max() > 1e-3  # there was a state to empty


# --- windows ------------------------------------------------------------------------------------------------------


async def test_partials_and_a_final_of_growing_audio_end_as_one_final_of_the_whole(engine: TritonEngine, spoken):
    for audio in spoken:
        stream = engine.asr_stream("nano", "en")
        for part in (0.3, 0.6, 0.6, 0.9):
            n = round(len(audio) * part)
            await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, n), audio[:n])
        found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)
        await stream.close()
        same(found, await final(engine, audio))
        assert found.words


async def test_only_new_audio_is_sent_and_the_window_grows_by_it(engine: TritonEngine, spoken):
    audio, sequence = spoken[0], engine.servers[0].next_id()
    sizes = []
    for i, begin in enumerate((0, 5_000, 20_000)):
        end = (5_000, 20_000, 20_000)[i]
        answer = await asr(engine, sequence, Decode.PARTIAL, audio[begin:end], start=i == 0)
        sizes.append(int(answer["window_samples"].reshape(-1)[0]))
    assert sizes == [5_000, 20_000, 20_000]
    await asr(engine, sequence, Decode.RESET, end=True)


async def test_the_segment_after_a_final_starts_clean(engine: TritonEngine, spoken):
    stream = engine.asr_stream("nano", "en")
    for segment, audio in enumerate(spoken):
        start = segment * 1_000_000
        run = RunAsr(Decode.PARTIAL, segment, start, start + len(audio) // 2)
        await stream.decode(run, audio[: len(audio) // 2])
        found = await stream.decode(RunAsr(Decode.FINAL, segment, start, start + len(audio)), audio)
        same(found, await final(engine, audio))
    await stream.close()


async def test_a_window_that_starts_later_replaces_the_one_before(engine: TritonEngine, spoken):
    """As after a speculative decode that was thrown away: START empties the stream."""
    first, second = spoken[0], spoken[1]
    stream = engine.asr_stream("nano", "en")
    await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, len(first)), first)
    found = await stream.decode(RunAsr(Decode.FINAL, 0, 100_000, 100_000 + len(second)), second)
    same(found, await final(engine, second))
    shorter = second[: len(second) // 2]
    await stream.decode(RunAsr(Decode.PARTIAL, 1, 0, len(second)), second)
    found = await stream.decode(RunAsr(Decode.FINAL, 1, 0, len(shorter)), shorter)
    same(found, await final(engine, shorter))
    await stream.close()


async def test_start_empties_the_window_of_an_id_that_is_running(engine: TritonEngine, spoken):
    sequence = engine.servers[0].next_id()
    await asr(engine, sequence, Decode.PARTIAL, spoken[0], start=True)
    answer = await asr(engine, sequence, Decode.FINAL, spoken[1], start=True, end=True)
    assert int(answer["window_samples"].reshape(-1)[0]) == len(spoken[1])
    assert text(answer) == (await final(engine, spoken[1])).text


async def test_a_final_may_be_decoded_before_more_is_said(engine: TritonEngine, spoken):
    audio = spoken[0]
    stream = engine.asr_stream("nano", "en")
    for part in (0.5, 0.8):
        n = round(len(audio) * part)
        await stream.decode(RunAsr(Decode.FINAL, 0, 0, n), audio[:n])
    found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)
    await stream.close()
    same(found, await final(engine, audio))


async def test_reset_empties_the_window(engine: TritonEngine, spoken):
    sequence = engine.servers[0].next_id()
    await asr(engine, sequence, Decode.PARTIAL, spoken[0], start=True)
    answer = await asr(engine, sequence, Decode.RESET)
    assert tokens(answer) == []
    assert int(answer["window_samples"].reshape(-1)[0]) == 0
    nothing = await asr(engine, sequence, Decode.FINAL)
    assert (tokens(nothing), text(nothing)) == ([], "")
    other = await asr(engine, sequence, Decode.FINAL, spoken[1], end=True)
    assert tokens(other) == list((await final(engine, spoken[1])).tokens)


async def test_a_final_of_no_audio_at_all_is_empty(engine: TritonEngine):
    found = await final(engine, NOTHING)
    assert (found.text, found.tokens, found.words) == ("", (), ())


# --- settled tokens -----------------------------------------------------------------------------------------------


async def test_a_prefix_is_the_beginning_of_the_hypothesis_whatever_is_heard(engine: TritonEngine, spoken):
    """A hypothesis of too little audio is mostly wrong; settled, it must stay nevertheless."""
    changed = 0
    for audio in spoken:
        early = len(audio) // 3
        sequence = engine.servers[0].next_id()
        guess = tokens(await asr(engine, sequence, Decode.PARTIAL, audio[:early], start=True))
        later = tokens(await asr(engine, sequence, Decode.PARTIAL, audio[early : 2 * early], prefix=guess))
        ended = tokens(await asr(engine, sequence, Decode.FINAL, audio[2 * early :], prefix=guess, end=True))
        assert later[: len(guess)] == guess
        assert ended[: len(guess)] == guess
        changed += list((await final(engine, audio)).tokens)[: len(guess)] != guess
    assert changed > 0, "no guess was wrong: this test shows nothing"


async def test_a_final_with_a_prefix_has_its_words_times_and_probabilities(engine: TritonEngine, spoken):
    audio, sequence = spoken[3], engine.servers[0].next_id()
    half = len(audio) // 2
    guess = tokens(await asr(engine, sequence, Decode.PARTIAL, audio[:half], start=True))
    answer = await asr(engine, sequence, Decode.FINAL, audio[half:], prefix=guess, end=True)
    assert len(answer["token_logprobs"].reshape(-1)) == len(tokens(answer))
    words = [w.decode() for w in answer["words"].reshape(-1)]
    assert "".join(words).strip() == text(answer).strip()
    times = answer["word_times"].reshape(-1, 2)
    assert len(times) == len(words) == len(answer["word_probabilities"].reshape(-1))
    assert (np.diff(times.reshape(-1)) >= 0).all()
    assert times.max() <= len(audio)


async def test_the_words_of_a_prefix_stay_as_they_are(engine: TritonEngine, spoken):
    """Not even a comma may be put behind the last of them."""
    for audio in spoken:
        whole = await final(engine, audio)
        for n in range(1, len(whole.words)):
            k = sum(whole.word_tokens[:n])
            sequence = engine.servers[0].next_id()
            answer = await asr(engine, sequence, Decode.FINAL, audio, start=True, end=True, prefix=list(whole.tokens[:k]))
            found = [w.decode() for w in answer["words"].reshape(-1)]
            assert found[:n] == [w.text for w in whole.words[:n]]


@pytest.mark.parametrize("wrong", [[999_999], [-1]])
async def test_a_prefix_of_what_is_no_text_is_refused_and_changes_nothing(engine: TritonEngine, spoken, wrong: list[int]):
    audio, sequence = spoken[0], engine.servers[0].next_id()
    half = len(audio) // 2
    await asr(engine, sequence, Decode.PARTIAL, audio[:half], start=True)
    with pytest.raises(EngineRejected, match="no text token"):
        await asr(engine, sequence, Decode.PARTIAL, audio[half:], prefix=wrong)
    again = await asr(engine, sequence, Decode.FINAL, audio[half:], end=True)
    assert int(again["window_samples"].reshape(-1)[0]) == len(audio)
    assert tokens(again) == list((await final(engine, audio)).tokens)


async def test_doubted_words_come_with_alternatives_when_asked_for(engine: TritonEngine, spoken):
    asked = 0
    for one, other in pairwise(spoken):  # two voices at once: some word is doubted, whatever the checkpoint
        n = min(len(one), len(other))
        audio = (one[:n] // 2 + other[:n] // 2).astype(np.int16)
        stream = engine.asr_stream("nano", "en", alternatives=3)
        found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)
        await stream.close()
        without = await final(engine, audio)
        assert (found.text, found.tokens) == (without.text, without.tokens)
        for word in found.words:
            assert len(word.alternatives) <= 3
            texts = [a.text for a in word.alternatives]
            assert word.text.strip() not in texts
            assert len(set(texts)) == len(texts)
            confidences = [a.confidence for a in word.alternatives]
            assert confidences == sorted(confidences, reverse=True)
            assert all(" " not in t and 0 < a.confidence <= 1 for t, a in zip(texts, word.alternatives, strict=True))
            if word.confidence > 0.6:
                assert not word.alternatives
            asked += len(word.alternatives)
    assert asked > 0, "no word was doubted: this test shows nothing"


# --- refusals -----------------------------------------------------------------------------------------------------


async def test_a_request_without_start_finds_no_stream(engine: TritonEngine, spoken):
    with pytest.raises(EngineUnavailable):
        await vad(engine, engine.servers[0].next_id(), spoken[0])
    with pytest.raises(EngineUnavailable):
        await asr(engine, engine.servers[0].next_id(), Decode.PARTIAL, spoken[0])


async def test_a_client_whose_sequence_is_gone_recovers_by_itself(engine: TritonEngine, spoken):
    audio = spoken[0]
    stream = engine.asr_stream("nano", "en")
    half = len(audio) // 2

    async def lose_it() -> None:
        await asr(engine, stream._sequence._id, Decode.RESET, end=True)

    await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, half), audio[:half])
    await lose_it()
    with pytest.raises(EngineUnavailable):  # a partial is not worth waiting for
        await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, len(audio)), audio)
    partial = await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, len(audio)), audio)
    await lose_it()
    found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)  # a final is
    await stream.close()
    assert partial.tokens == found.tokens
    same(found, await final(engine, audio))


async def test_a_vad_stream_whose_sequence_is_gone_goes_on_warm(engine: TritonEngine, spoken):
    audio = np.concatenate([spoken[0], spoken[1]])
    stream, undisturbed = engine.vad_stream(), engine.vad_stream()
    middle = len(audio) // FRAME // 2 * FRAME
    await stream.probabilities(audio[:middle])
    await vad(engine, stream._sequence._id, audio[:FRAME], end=True)
    found = await stream.probabilities(audio[middle:])
    expected = (await undisturbed.probabilities(audio))[middle // FRAME :]
    await stream.close()
    await undisturbed.close()
    assert alike(found, expected)


async def test_more_audio_than_the_longest_window_is_refused_and_the_window_stays(engine: TritonEngine, spoken):
    audio, sequence = spoken[0], engine.servers[0].next_id()
    await asr(engine, sequence, Decode.PARTIAL, audio, start=True)
    with pytest.raises(EngineRejected, match=r"would exceed 12 s: send a final or a reset first"):
        await asr(engine, sequence, Decode.PARTIAL, np.zeros(LONGEST, np.int16))
    answer = await asr(engine, sequence, Decode.FINAL, end=True)
    assert int(answer["window_samples"].reshape(-1)[0]) == len(audio)
    assert tokens(answer) == list((await final(engine, audio)).tokens)


async def test_a_client_that_asked_for_too_long_a_window_can_go_on(engine: TritonEngine, spoken):
    stream, audio = engine.asr_stream("nano", "en"), spoken[0]
    await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, len(audio)), audio)
    longer = np.concatenate([audio, np.zeros(LONGEST, np.int16)])
    with pytest.raises(EngineRejected, match="would exceed"):
        await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(longer)), longer)
    same(await stream.decode(RunAsr(Decode.FINAL, 1, 0, len(audio)), audio), await final(engine, audio))
    await stream.close()


async def test_a_window_exactly_as_long_as_the_longest_is_taken(engine: TritonEngine, spoken):
    audio = np.resize(np.concatenate(spoken), LONGEST)
    assert (await final(engine, audio)).tokens


async def test_an_unknown_command_is_refused_by_name(engine: TritonEngine):
    with pytest.raises(EngineRejected, match="command 9 is not"):
        await asr(engine, engine.servers[0].next_id(), 9, start=True, end=True)  # type: ignore[arg-type]
