"""Caches in slots give what growing caches give: the same tokens, words, probabilities, in whatever company a row is."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from export.checkpoint import open_checkpoint
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.scores import Listed, Podium, Rule, entropy, log_softmax
from export.engine.slots import DeviceUnavailable, Place, Slots, open_session
from export.engine.vocabulary import AUTO, Vocabulary
from export.repository import NANO, export_whisper, vocabulary
from export.triton_config import Tuning
from tests.export.checkpoints import local_session
from tests.export.test_variants import VARIANTS, save, sounds

MAX_ROWS, AT_ONCE = 5, 3


@dataclass
class Both:
    """One checkpoint, decoded both ways."""

    tokens: Vocabulary
    growing: Scheduler
    slots: Scheduler
    encoder: Path

    def found(self, audio: Sequence[np.ndarray], **job: object) -> tuple[list[Hypothesis], list[Hypothesis]]:
        """int16 windows, each of its own length; asked for at once, so that rows have company."""
        encoder = local_session(self.encoder)
        hidden = [encoder.run(["hidden_states"], {"audio": a[None]})[0][0] for a in audio]
        return self._decoded(self.growing, hidden, audio, **job), self._decoded(self.slots, audio, audio, **job)

    def _decoded(
        self, scheduler: Scheduler, windows: Sequence[np.ndarray], audio: Sequence[np.ndarray], language: str = "en",
        prefix: Sequence[int] = (), **options: object,
    ) -> list[Hypothesis]:  # fmt: skip
        answers: list[queue.Queue] = [queue.Queue() for _ in windows]
        for window, clip, answer in zip(windows, audio, answers, strict=True):
            prompt = self.tokens.prompt(language)
            job = Job(window, len(clip), prompt, list(prefix), language, True, answer.put, **options)  # type: ignore[arg-type]
            scheduler.submit(job)
        found = [a.get(timeout=60) for a in answers]
        for one in found:
            if isinstance(one, Exception):
                raise one
        return found


def both(checkpoint_folder: Path, folder: Path, precision: str = "fp32") -> Both:
    checkpoint = open_checkpoint(str(checkpoint_folder))
    tokens = vocabulary(checkpoint)
    for name, tuning in (("growing", Tuning()), ("slots", Tuning(slots=True))):
        export_whisper(str(checkpoint_folder), folder / name, name="m", precision=precision, tuning=tuning)
    loaded = sessions(folder / "growing" / "whisper_m" / "1", ["CPUExecutionProvider"], 1)
    encoder = folder / "slots" / "whisper_m_encoder" / "1" / "model.onnx"
    slots = Slots(
        folder / "slots" / "whisper_m" / "1", encoder, Place(), max_rows=MAX_ROWS, most_at_once=AT_ONCE,
        longest_window=checkpoint.window_s * 16_000,
    )  # fmt: skip
    growing = Growing(loaded["cross"], loaded["decoder"], tokens)
    return Both(tokens, Scheduler(growing, tokens, MAX_ROWS), Scheduler(slots, tokens, MAX_ROWS), encoder)


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = both(NANO, tmp_path_factory.mktemp("nano"))
    yield made
    made.growing.stop()
    made.slots.stop()


@pytest.fixture(scope="module")
def spoken(speak) -> list[np.ndarray]:
    texts = [
        "The train leaves at half past three.",
        "Yes.",
        "Please open the window in the kitchen.",
        "It is raining today.",
    ]
    out: list[np.ndarray] = []
    for i, audio in enumerate(speak(t).audio for t in texts * 3):
        window = np.zeros((len(audio) // 16_000 + 1 + i % 3) * 16_000, np.int16)
        window[: len(audio)] = audio
        out.append(window)
    return out


def same(ours: Sequence[Hypothesis], theirs: Sequence[Hypothesis], tolerance: float = 1e-4) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert (a.tokens, a.text, a.words, a.word_times) == (b.tokens, b.text, b.words, b.word_times)
        assert a.language == b.language  # two temperatures may have found one text: which of them is told is chance
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=tolerance)
        np.testing.assert_allclose(a.word_probabilities, b.word_probabilities, atol=tolerance)
        np.testing.assert_allclose(a.no_speech_probability, b.no_speech_probability, atol=tolerance)
        np.testing.assert_allclose(a.language_probability, b.language_probability, atol=tolerance)
        for mine, its in zip(a.word_alternatives, b.word_alternatives, strict=True):  # of two as likely either comes first
            assert dict(mine) == pytest.approx(dict(its), abs=tolerance)


def test_more_sentences_than_rows_of_many_lengths_at_once(nano: Both, spoken):
    ours, theirs = nano.found(spoken)
    same(ours, theirs)
    assert sum(len(h.words) for h in ours) > 3 * len(spoken)


def test_settled_tokens_in_front(nano: Both, spoken):
    prefix = nano.found(spoken[:1])[0][0].tokens[:4]
    same(*nano.found(spoken, prefix=prefix))


@pytest.mark.parametrize("beam_size", [2, 3, MAX_ROWS])
def test_beams_of_many_windows_at_once(nano: Both, spoken, beam_size: int):
    ours, theirs = nano.found(spoken, beam_size=beam_size)
    same(ours, theirs)
    same(*nano.found(spoken, prefix=ours[0].tokens[:3], beam_size=beam_size))


def test_alternatives_of_doubted_words(nano: Both, spoken):
    r = np.random.default_rng(1)
    levels = np.repeat([0.7, 1.5, 3.0], len(spoken) // 3)  # some drown words, whatever the voice
    noise = [r.normal(0, level * a.std() + 1, a.shape) for level, a in zip(levels, spoken, strict=True)]
    noisy = [np.clip(a + n, -32768, 32767).astype(np.int16) for a, n in zip(spoken, noise, strict=True)]
    ours, theirs = nano.found(noisy, n_alternatives=2)
    same(ours, theirs)
    assert any(a for h in ours for a in h.word_alternatives), "nothing was doubted: this test shows nothing"


def test_doubtful_texts_at_higher_temperatures(nano: Both, spoken):
    nonsense = [933, 400, 1200, 517]  # forced, and nothing that a likely text begins with
    ours, theirs = nano.found(spoken, prefix=nonsense, temperatures=(0.0, 0.5, 1.0))
    alike = [pair for pair in zip(ours, theirs, strict=True) if pair[0].tokens == pair[1].tokens]
    assert (
        len(alike) >= len(spoken) - 1
    )  # where two draws are as good, a rounding decides, and all that follows is another text
    same(*zip(*alike, strict=True))
    assert any(h.temperature for h in ours), "nothing was doubtful: this test shows nothing"


def test_a_row_that_fails_gives_its_slot_back_and_harms_no_other(nano: Both, spoken):
    broken: queue.Queue = queue.Queue()
    for _ in range(2 * MAX_ROWS):
        prompt = [*nano.tokens.prompt(), 10**6]  # no such token
        nano.slots.submit(Job(spoken[0], 16_000, prompt, [], "en", True, broken.put))
    for _ in range(2 * MAX_ROWS):
        assert isinstance(broken.get(timeout=30), Exception)
    same(*nano.found(spoken))


def test_rows_that_nobody_waits_for_give_their_slots_back(nano: Both, spoken):
    asked: queue.Queue = queue.Queue()
    for _ in range(3 * MAX_ROWS):
        wanted = iter([False])  # when it is taken up
        cancelled = lambda wanted=wanted: next(wanted, True)  # noqa: E731
        nano.slots.submit(Job(spoken[0], 48_000, nano.tokens.prompt(), [], "en", True, asked.put, cancelled))
    for _ in range(3 * MAX_ROWS):
        asked.get(timeout=30)
    same(*nano.found(spoken))


@pytest.mark.parametrize(
    "name", ["tiny, base, small, medium, large-v2", "distil-large-v3", "untied head", "padded vocabulary",
             "one decoder layer", "distil with its teacher's alignment heads", "a shorter encoder",
             "other heads in the decoder"],
)  # fmt: skip
def test_any_kind_of_checkpoint_and_the_language_that_it_finds(name: str, tmp_path: Path):
    made = both(save(VARIANTS[name], tmp_path / "whisper-variant"), tmp_path)
    seconds = open_checkpoint(str(tmp_path / "whisper-variant")).window_s
    windows = [np.pad(a, (0, seconds * 16_000 - len(a))) for a in sounds(seconds)]
    try:
        ours, theirs = made.found(windows, language=AUTO)
        same(ours, theirs, 1e-3)
        assert any(h.tokens for h in ours)
        assert all(h.language_probability < 1 for h in ours)
    finally:
        made.growing.stop()
        made.slots.stop()


def test_half_precision(spoken, tmp_path: Path):
    made = both(NANO, tmp_path, "fp16")
    try:
        ours, theirs = made.found(spoken)
        same(ours, theirs, 0.05)
    finally:
        made.growing.stop()
        made.slots.stop()


def test_the_rules_say_what_may_come_next(nano: Both):
    size = 3046
    table = nano.tokens.rules(size)
    for rule, options in ((Rule.TEXT, {}), (Rule.FIRST, {"first": True}), (Rule.NEW_WORD, {"new_word": True})):
        forbidden = np.isinf(nano.tokens.suppress(np.zeros(size, np.float32), **({"first": False} | options)))
        np.testing.assert_array_equal(table[rule] < -1e8, forbidden)
        assert forbidden.any()
        assert not forbidden.all()
    assert not table[Rule.ANYTHING].any()


def test_what_a_device_tells_of_a_distribution_is_what_the_whole_of_it_tells():
    r = np.random.default_rng(4)
    scores = log_softmax(r.normal(size=50).astype(np.float32))
    order = np.argsort(scores)[::-1][: Podium.N]
    numbers = np.array([*scores[order], *order, entropy(scores), scores[7]], np.float32)
    podium, whole = Podium(numbers, 7, lambda: scores), Listed(scores)
    assert podium.best(12) == whole.best(12)
    np.testing.assert_allclose(podium.entropy, whole.entropy, atol=1e-5)
    assert podium.logprob(7) == whole.logprob(7)
    token = podium.draw(0.0, r)
    assert token == whole.draw(0.0, r)
    assert podium.logprob(token) == whole.logprob(token)
    drawn = [p.draw(0.7, np.random.default_rng(9)) for p in (podium, whole)]
    assert drawn[0] == drawn[1]
    assert podium.logprob(drawn[0]) == whole.logprob(drawn[0])


def test_without_cuda_it_says_so_and_runs_nowhere_else(tmp_path: Path):
    with pytest.raises(DeviceUnavailable, match="install onnxruntime-gpu"):
        open_session(tmp_path / "model.onnx", Place("cuda"))
