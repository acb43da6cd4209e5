"""Speech made and augmented: true times stay true, batches have fixed shapes."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.nano import augment, corpus, english, synth, texts, tokenizer
from export.nano.curriculum import Curriculum
from export.nano.data import BUCKETS_S, IGNORE, Batches, max_tokens, phone_table
from export.nano.examples import Examples
from export.nano.features import log_mel
from export.nano.pools import Pool, next_language
from export.repository import NANO


def test_espeak_word_times_cover_the_sound_in_order(speak):
    u = speak("The train to London leaves at nine.")
    assert [w for w, _, _ in u.words] == ["The", "train", "to", "London", "leaves", "at", "nine"]
    times = [t for _, a, b in u.words for t in (a, b)]
    assert times == sorted(times)
    assert u.words[-1][2] <= len(u.audio) / 16000
    for _, start, end in u.words:
        span = u.audio[round(start * 16000) : round(end * 16000)].astype(float)
        assert np.sqrt((span**2).mean()) > 500


def test_an_unknown_voice_is_named(speak):
    with pytest.raises(ValueError, match="klingon"):
        synth.synthesise("Hello.", synth.Voice("espeak", "klingon-9"))


def test_unseen_voices_are_never_trained_with():
    r = random.Random(3)
    seen = {synth.seen_voice(r).name for _ in range(4000)}
    unseen = {synth.unseen_voice(r).name for _ in range(400)}
    more = {synth.varied_voice(r).name for _ in range(400)} | {synth.pico_voice(r).name for _ in range(40)}
    assert not (seen | more) & unseen
    assert not seen & more, "the test sets would change with what is installed"


def test_a_shard_gives_back_what_was_written(tmp_path: Path, speak):
    said = [speak("One two three."), speak("Four five.", "en+f3")]
    assert corpus.write_shard(tmp_path, "shard-000", said) == 2
    items = corpus.read(tmp_path)
    for item, u in zip(items, said, strict=True):
        assert np.array_equal(item.audio(), u.audio)
        assert (item.text, item.voice) == (u.text, u.voice)
        assert item.words == [tuple(w) for w in u.words]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shard-000.jsonl", "shard-000.pcm"]


def test_the_tokenizer_has_whispers_order_of_ids(tmp_path: Path):
    t = tokenizer.train(["hello world", "hello there"], 300)
    tokenizer.save(t, tmp_path)
    ids = [
        t.token_to_id(x)
        for x in ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|notimestamps|>", "<|0.00|>", "<|30.00|>")
    ]
    assert ids == sorted(ids)
    assert ids[5] - ids[4] == 1500
    assert ids[4] == ids[3] + 1
    assert t.decode(t.encode(" hello wörld ☃", add_special_tokens=False).ids) == " hello wörld ☃"
    assert json.loads((tmp_path / "added_tokens.json").read_text())["<|30.00|>"] == ids[5]


def test_speed_changes_length_and_telephone_removes_what_a_line_does_not_carry():
    tone = np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000).astype(np.float32) * 0.5
    assert abs(len(augment.speed(tone, 1.25)) - 12800) < 50
    assert np.abs(augment.telephone(tone)[1000:-1000]).max() < 0.05


def test_log_mel_is_bounded_below_its_peak():
    mel = log_mel(np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1)
    assert mel.shape == (80, 100)
    assert mel.max() - mel.min() <= 2.0 + 1e-6


def test_another_pace_moves_sounds_and_their_times_alike():
    r = np.random.default_rng(5)
    mel = np.full((80, 400), -1.0, np.float32)
    mel[:, 120] = 1.0
    moved: set[int] = set()
    for _ in range(20):
        before, after = augment.pace(r, 3.0)
        assert np.all(np.diff(after) > 0)
        assert after[-1] == pytest.approx(3.0)
        heard = augment.repaced(mel, before, after)
        assert heard.shape == mel.shape
        at = int(heard[0].argmax())
        assert at == pytest.approx(100 * np.interp(1.2, before, after), abs=1)
        moved.add(at)
    assert len(moved) > 8
    assert np.array_equal(heard[:, 300:], mel[:, 300:]), "behind the speech nothing moves"


def test_another_microphone_weighs_frequencies_the_same_at_all_times(speak):
    mel = log_mel(speak("The train to London leaves at nine.").audio[:16000].astype(np.float32) / 32768)
    heard = augment.microphone(np.random.default_rng(2), mel)
    assert heard.max() - heard.min() <= 2.0 + 1e-6
    loud = (mel > mel.max() - 1.2) & (heard > heard.max() - 1.2)  # what no floor has cut
    change = np.where(loud, heard - mel, np.nan)
    heard_often = loud.sum(1) > 5
    assert np.nanstd(change[heard_often], axis=1).max() < 1e-5
    assert np.nanstd(np.nanmean(change[heard_often], axis=1)) > 0.02


def test_noise_is_as_loud_as_was_asked_and_a_crowd_is_taken_as_it_is():
    r = np.random.default_rng(4)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000).astype(np.float32)
    crowd = r.standard_normal(32000).astype(np.float32)
    found: list[float] = []
    for _ in range(60):
        heard = augment.distort(r, tone, 1.0, 5, 12, crowd)
        gain = heard @ tone / (tone @ tone)
        rest = heard - gain * tone
        if abs(np.corrcoef(rest, crowd)[0, 1]) > 0.99:  # neither a room nor a telephone
            found.append(20 * np.log10(gain * np.sqrt(np.mean(tone**2)) / np.sqrt(np.mean(rest**2))))
    assert len(found) > 15
    assert 4.5 < min(found) < max(found) < 12.5


def test_calls_are_harmonic_and_fit():
    for seed in range(10):
        sound = augment.calls(np.random.default_rng(seed), 24000)
        assert sound.shape == (24000,)
        assert np.isfinite(sound).all()
        assert sound.std() > 0.01


def test_rubbing_comes_in_strokes_all_the_time():
    for seed in range(10):
        sound = augment.rubbing(np.random.default_rng(seed), 48000)
        assert sound.shape == (48000,)
        levels = np.sqrt(np.mean(sound.reshape(-1, 320) ** 2, axis=1))  # of 20 ms
        assert np.isfinite(levels).all()
        assert levels.max() > 4 * np.quantile(levels, 0.1)
        assert levels.reshape(-1, 50).max(axis=1).min() > 0.02  # in every second


@pytest.mark.parametrize("n", [1, 400, 4800, 160_000])
def test_noise_is_of_one_loudness_and_any_length(n: int):
    r = np.random.default_rng(3)
    for _ in range(40):
        noise = augment.coloured_noise(r, n)
        assert noise.shape == (n,)
        assert noise.dtype == np.float32
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(1.0, abs=1e-3)


def test_single_words_are_mostly_digits_and_never_held_out():
    words = texts.single_words(3000, 1)
    assert len(words) == 3000
    digits = sum(w.strip(".").lower() in english.ONES[:10] for w in words)
    assert 0.5 < digits / 3000 < 0.7
    assert not any(texts.is_held_out(w) for w in words)


def test_pico_speaks_every_language_that_it_has():
    if not synth.has_pico():
        pytest.skip("pico2wave is not installed (Debian's non-free libttspico-utils)")
    for language in synth.PICO:
        u = synth.synthesise("Don't <stop> & go.", synth.pico_voice(random.Random(1), language))
        assert 0.5 < len(u.audio) / 16000 < 6
        assert np.abs(u.audio).max() > 3000


def test_shards_that_come_later_are_heard_too(tmp_path: Path, speak):
    corpus.write_shard(tmp_path, "shard-000", [speak(f"Number {w}.") for w in ("one", "two", "three")])
    tokens = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    stages = [(0, Curriculum(max_s=12, batch_s=8, joined=0, distort=0, spec=0))]
    batches = iter(Batches(tmp_path, tokens, phone_table(corpus.read(tmp_path)), [], 1, stages, 0))

    def said(n: int) -> str:
        rows = [row for _ in range(n) for row in next(batches).tokens.tolist()]
        return tokens.decode([t for row in rows for t in row])

    assert "Zebra" not in said(4)
    corpus.write_shard(tmp_path, "shard-001", [speak(f"Zebras, number {w}.") for w in ("four", "five", "six")])
    assert "Zebra" in said(12)


def test_engines_are_heard_by_their_shares(tmp_path: Path, speak):
    said = [speak("It is raining in Dublin."), replace(speak("Four trains leave."), voice="flite:rms")]
    corpus.write_shard(tmp_path, "shard-000", said)
    tokens = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    c = Curriculum(max_s=4, batch_s=8, joined=0, distort=0, spec=0, engines={"espeak": 0.1})
    batches = iter(Batches(tmp_path, tokens, phone_table(corpus.read(tmp_path)), [], 1, [(0, c)], 0))
    rows = [tokens.decode(row) for _ in range(50) for row in next(batches).tokens.tolist()]
    heard = Counter("It" in row for row in rows)
    assert 0.02 < heard[True] / heard.total() < 0.2


def test_sentences_that_are_closed_up_follow_without_a_pause(tmp_path: Path, speak):
    said = [speak(t) for t in ("The red bottle was under the table.", "It is raining in Dublin today.")]
    said = [replace(u, audio=np.concatenate([np.zeros(8000, np.int16), u.audio, np.zeros(8000, np.int16)])) for u in said]
    later = lambda spans: [(n, a + 0.5, b + 0.5) for n, a, b in spans]  # noqa: E731 - used at once
    said = [replace(u, phones=later(u.phones), words=later(u.words)) for u in said]
    corpus.write_shard(tmp_path, "shard-000", said)
    items = corpus.read(tmp_path)
    gaps: dict[float, list[float]] = {0.0: [], 1.0: []}
    for share, found in gaps.items():
        for seed in range(30):
            c = Curriculum(joined=0.999, closed_up=share, distort=0, spec=0)
            e = Examples([]).made_of(np.random.default_rng(seed), items[0], items, items, c)
            names = [w for w, _, _ in e.words]
            assert len(e.phones) > 0 or not e.text
            assert all(a <= b for _, a, b in e.words)
            found += [
                b[1] - a[2] for a, b in itertools.pairwise(e.words) if (a[0], b[0]) in {("table", "It"), ("today", "The")}
            ]
            assert len(names) == len(e.text.split())
    assert min(len(g) for g in gaps.values()) > 10
    assert max(gaps[1.0]) < 0.05
    assert min(gaps[0.0]) > 0.4


def test_recordings_are_spliced_to_sentences_that_nobody_said(tmp_path: Path, speak):
    texts = ["The red bottle was under the table.", "It is raining in Dublin today.", "She sells bread every Friday."]
    said = [replace(speak(t), voice="recorded:someone") for t in texts]
    assert all(len(u.words) == len(u.text.split()) for u in said)
    corpus.write_shard(tmp_path, "recorded-000", said)
    items = corpus.read(tmp_path)
    examples = Examples(items)
    r = np.random.default_rng(3)
    seen: set[str] = set()
    for _ in range(40):
        audio, text, words = examples.spoken(r, items[0], Curriculum(spliced=1.0))
        seen.add(text)
        assert [w for w, _, _ in words] == text.replace(".", "").split()
        edges = [t for _, a, b in words for t in (a, b)]
        assert edges == sorted(edges)
        assert edges[-1] <= len(audio) / 16_000 + 0.07, "the rest was cut no more than 60 ms from where it begins"
        assert text.split()[0] == "The"
    assert len(seen - set(texts)) > 15
    assert examples.spoken(r, items[0], Curriculum())[1] == texts[0]


def test_batches_have_one_of_the_fixed_shapes_and_labels_that_fit(tmp_path: Path, speak):
    said = [speak(f"This is sentence number {w}.") for w in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
    corpus.write_shard(tmp_path, "shard-000", said)
    items = corpus.read(tmp_path)
    tokens = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    stages = [(0, Curriculum(max_s=12, batch_s=24))]
    batches = iter(Batches(tmp_path, tokens, phone_table(items), [], 1, stages, 0))
    for _ in range(12):
        batch = next(batches)
        n, n_mels, frames = batch.mel.shape
        assert n_mels == 80
        assert frames / 100 in BUCKETS_S
        assert n == max(4, int(24 / (frames / 100)))
        assert batch.tokens.shape == (n, max_tokens(frames // 100))
        assert batch.phones.shape == (n, frames // 2)
        for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
            used = [t for t in targets if t != IGNORE]
            assert used[-1] == tokens.token_to_id("<|endoftext|>")
            assert row[1 : len(used)] == used[:-1]  # teacher forcing: inputs are the targets moved by one


def test_a_shard_that_is_being_made_is_not_there_yet(tmp_path: Path):
    heard = synth.Utterance("One two.", "flite:rms", np.zeros(1600, np.int16))

    def making():
        yield heard
        assert corpus.read(tmp_path) == []
        yield heard

    corpus.write_shard(tmp_path, "shard-000", making())
    assert len(corpus.read(tmp_path)) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shard-000.jsonl", "shard-000.pcm"]


def test_rare_words_are_heard_more_often_where_that_is_asked_for():
    said = ["The train is late."] * 900 + ["The train is here."] * 99 + ["The zebra is late."]
    pool = Pool(corpus.Item(Path(), 0, 1, text, "espeak:en", [], []) for text in said)
    r = np.random.default_rng(1)
    drawn = {rare: Counter(pool.draw(r, rare).text for _ in range(4000)) for rare in (0.0, 0.5, 1.0)}
    share = {rare: found["The zebra is late."] / 4000 for rare, found in drawn.items()}
    assert share[0.0] < 0.004
    expected = (1 + 2 * 1000**-0.5 + 901**-0.5) / 4  # its words are heard once, in all, and in most
    others = (900 * (3 * 1000**-0.5 + 901**-0.5) + 99 * (3 * 1000**-0.5 + 99**-0.5)) / 4
    assert share[1.0] == pytest.approx(expected / (expected + others), rel=0.4)
    assert share[0.0] < share[0.5] < share[1.0]
    pool.add(corpus.Item(Path(), 0, 1, "Quagga.", "espeak:en", [], []))
    assert any(pool.draw(r, 1.0).text == "Quagga." for _ in range(1000)), "what comes later is drawn too"


def test_languages_are_drawn_by_their_shares():
    r = np.random.default_rng(2)
    drawn = Counter(next_language(r, ["it", "en", "de"], {"en": 2.0, "fr": 50.0}) for _ in range(8000))
    assert drawn["en"] / 8000 == pytest.approx(0.5, abs=0.03)
    assert drawn["de"] / 8000 == pytest.approx(0.25, abs=0.03)
    assert {next_language(r, ["en"], {}) for _ in range(5)} == {"en"}


def test_a_sentence_that_festival_chokes_on_costs_one_sentence(caplog):
    if not shutil.which("festival"):
        pytest.skip("festival is not installed")
    voice = synth.Voice("festival", "kal_diphone")
    sentences = ["The train is late.", 'It is "raining".', "Please close the door."]
    said = [u.text for u in corpus._in_one_process(sentences, voice)]
    assert said == [sentences[0], sentences[2]]
    assert "skipped" in caplog.text
