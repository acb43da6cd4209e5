"""Other languages than English: their sentences, their voices, and a checkpoint that begins with what English has taught."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.nano import corpus, synth, texts
from export.nano.data import plain
from export.nano.languages import LANGUAGES
from export.nano.phrasebook import PhraseBook

torch = pytest.importorskip("torch", reason="training needs torch; make test installs it")


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_sentence_of_a_phrase_book_can_be_said_as_it_is_written(code: str):
    letters = LANGUAGES[code].letters
    pattern = re.compile(f"[¿¡]?[A-Z{letters.upper()}][A-Za-z{letters}{letters.upper()}' ,.?!¿¡-]*[.?!]")
    book = PhraseBook(code, 3)
    said = [book.sentence() for _ in range(2000)]
    assert [s for s in said if not pattern.fullmatch(s)] == []
    assert [s for s in said if "  " in s or " ," in s or " ." in s] == []
    assert len(set(said)) > 1500
    assert len({w for s in said for w in texts.words_of(s)}) > 1000


def test_the_same_seed_gives_the_same_sentences_and_another_one_others():
    a, b, c = (PhraseBook("de", seed) for seed in (1, 1, 2))
    assert [a.sentence() for _ in range(20)] == [b.sentence() for _ in range(20)] != [c.sentence() for _ in range(20)]


def test_a_book_with_a_slot_that_is_nowhere_says_which(tmp_path: Path):
    (tmp_path / "xx.toml").write_text('[classes]\na = ["{b}"]\n[templates]\n"Say {a} {int:2-3}." = 1\n')
    with pytest.raises(ValueError, match=r"xx\.toml has no class b"):
        PhraseBook("xx", 1, tmp_path)


def test_numbers_are_spelled_in_the_language_of_the_book(tmp_path: Path):
    (tmp_path / "de.toml").write_text(
        '[classes]\nday = ["{ord:3-3}n Mai"]\n[templates]\n"am {day} {year:1984-1984}, {int:21-21}, {digits:2-2}." = 1\n'
    )
    said = PhraseBook("de", 1, tmp_path).sentence()
    assert re.fullmatch(r"Am dritten Mai neunzehnhundertvierundachtzig, einundzwanzig, \w+ \w+\.", said)


def test_manuals_give_whole_sentences_of_their_language_only(tmp_path: Path):
    (tmp_path / "fr").mkdir()
    page = "<p>Où est l&#8217;œuf ? The egg is not here. Il pèse 3 kg. <b>Voilà</b> une\n phrase.</p><p>x <code>l</code></p>"
    (tmp_path / "fr" / "a.html").write_text(page)
    found = list(LANGUAGES["fr"].prose(tmp_path, tmp_path / "none", tmp_path / "none"))
    assert found == ["Où est l'œuf?", "Voilà une phrase."]


def test_fortunes_come_without_those_who_said_them(tmp_path: Path):
    (tmp_path / "es").mkdir()
    (tmp_path / "es" / "vida.fortunes").write_text("¿Qué es la vida?\n\t\t-- Calderón\n%\nLa vida es\nsueño.\n%\nNo.\n")
    (tmp_path / "es" / "vida.fortunes.dat").write_text("La vida es otra cosa.\n")
    found = list(LANGUAGES["es"].prose(tmp_path / "none", tmp_path / "none", tmp_path))
    assert found == ["¿Qué es la vida?", "La vida es sueño."]


@pytest.mark.parametrize("code", LANGUAGES)
def test_held_out_sentences_of_a_language_are_never_trained_on(code: str):
    train, held = texts.corpus(400, 1, language=code), texts.corpus(40, 77, held_out=True, language=code)
    assert len(train) == 400
    assert len(held) == 40
    assert not {" ".join(texts.words_of(t)) for t in train} & {" ".join(texts.words_of(t)) for t in held}


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
@pytest.mark.parametrize(
    ("code", "text"),
    [("de", "Können Sie das Fenster schließen?"), ("es", "¿Dónde está el señor Muñoz, mañana?"),
     ("fr", "Où êtes-vous allé l'été passé, chère amie?"), ("it", "Perché l'università è già chiusa?")],
)  # fmt: skip
def test_words_are_timed_as_they_are_written(code: str, text: str):
    said = synth.synthesise(text, synth.Voice("espeak", LANGUAGES[code].accents[0]))
    assert [w for w, _, _ in said.words] == [w.strip("¿?,.") for w in text.split()]
    edges = [t for _, a, b in said.words for t in (a, b)]
    assert edges == sorted(edges)
    assert edges[-1] <= len(said.audio) / synth.SAMPLE_RATE


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
def test_voices_made_at_random_differ_by_number_and_are_said_without_clipping():
    text = "The train to London leaves at nine."
    assert synth.variant(1) == synth.variant(1) != synth.variant(2)
    voices = [synth.Voice("espeak", f"en-us+{synth.VARIED}{n:03d}") for n in range(4)]
    said = [synth.synthesise(text, v) for v in voices]
    pitches = [np.argmax(np.abs(np.fft.rfft(u.audio.astype(float)))) / len(u.audio) for u in said]
    assert len(set(pitches)) == 4
    assert all(len(u.words) == len(text.split()) for u in said)
    assert all(1_000 < np.abs(u.audio.astype(int)).max() < 32_767 for u in said)
    plain_voice = synth.synthesise(text, synth.Voice("espeak", "en-us+f1"))
    assert len(plain_voice.words) == len(text.split()), "espeak-ng's own variants are still there"


def test_letters_with_accents_are_spelled_without_them_for_ctc():
    assert plain("Où est l'Œuf, Straße-Ñandú?") == "ou est l'oeuf, strasse nandu?"


SENTENCES = {
    "en": ["The train to London leaves at nine.", "Four five six.", "Please call me tomorrow.", "It is raining again."],
    "de": [
        "Der Zug nach München fährt um neun.",
        "Vier fünf sechs.",
        "Bitte ruf mich morgen an.",
        "Es regnet schon wieder.",
    ],
}


def test_another_seed_makes_more_shards_beside_the_first_and_no_shard_twice(tmp_path: Path):
    for seed in (1, 2, 2):
        corpus.synthesise(tmp_path, 6, seed=seed, workers=1, language="de")
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == ["de-000.jsonl", "de-2-000.jsonl"]
    first, more = (corpus.read_shard(tmp_path / name) for name in ("de-000.jsonl", "de-2-000.jsonl"))
    assert {i.language for i in (*first, *more)} == {"de"}
    assert {i.text for i in first} != {i.text for i in more}


@pytest.fixture
def english(tmp_path: Path, speak) -> Path:
    """A checkpoint of four steps, beside shards in two languages."""
    from export.nano import package
    from export.nano.train import Plan, train

    corpus.write_shard(tmp_path / "english", "shard-000", [speak(t) for t in SENTENCES["en"]])
    train(tmp_path / "english", tmp_path / "run", Plan(steps=4, vocab=300, threads=1, save_every=4), [])
    both = [replace(speak(t, voice), language=c) for c, voice in (("en", "en-us"), ("de", "de")) for t in SENTENCES[c]]
    corpus.write_shard(tmp_path / "both", "shard-000", both)
    run = tmp_path / "run"
    package.package(run / "last.pt", run / "tokenizer", tmp_path / "packed", alignment_heads=[(1, 0)])
    return tmp_path / "packed"


def test_a_checkpoint_of_two_languages_begins_with_what_one_has_learned(english: Path, tmp_path: Path):
    from tokenizers import Tokenizer

    from export.nano import package
    from export.nano.evaluate import Recogniser
    from export.nano.multilingual import begin
    from export.nano.tokenizer import languages_of
    from export.nano.train import Plan, train

    with pytest.raises(ValueError, match="no speech in fr"):
        begin(english, tmp_path / "both", tmp_path / "multi", 320, ["en", "fr"])
    begin(english, tmp_path / "both", tmp_path / "multi", 320, ["en", "de"])
    before, after = (torch.load(tmp_path / p / "last.pt", weights_only=True) for p in ("run", "multi"))
    assert after["step"] == 0
    old, new = (Tokenizer.from_file(str(p / "tokenizer.json")) for p in (english, tmp_path / "multi" / "tokenizer"))
    assert languages_of(new) == ("en", "de")
    assert new.encode(" fünf", add_special_tokens=False).ids != old.encode(" fünf", add_special_tokens=False).ids
    weights = [s["model"]["decoder.embed_tokens.weight"] for s in (before, after)]
    for token in ("<|endoftext|>", "<|1.00|>", "e", "Ġ"):
        assert torch.equal(weights[0][old.token_to_id(token)].half(), weights[1][new.token_to_id(token)].half()), token
    same = "encoder.layers.0.self_attn.q_proj.weight"
    assert torch.equal(before["model"][same].half(), after["model"][same].half())

    train(tmp_path / "both", tmp_path / "multi", Plan(steps=4, warmup=1, threads=1, save_every=4), [])
    assert torch.load(tmp_path / "multi" / "last.pt", weights_only=True)["step"] == 4
    heads = [(1, 0)]
    package.package(
        tmp_path / "multi" / "last.pt",
        tmp_path / "multi" / "tokenizer",
        tmp_path / "ck",
        windows_s=[4],
        alignment_heads=heads,
    )
    generation = json.loads((tmp_path / "ck" / "generation_config.json").read_text())
    assert list(generation["lang_to_id"]) == ["<|en|>", "<|de|>"]
    recogniser = Recogniser(tmp_path / "ck", threads=1)
    try:
        assert recogniser.vocabulary.languages == ["en", "de"]
        assert recogniser.vocabulary.tasks == ["transcribe"], "it was never taught to translate"
        (found,) = recogniser.transcribe([np.zeros(16_000, np.int16)], language="auto")
        assert found.language in {"en", "de"}
    finally:
        recogniser.close()


def test_a_batch_of_two_languages_tells_each_its_own(english: Path, tmp_path: Path):
    from tokenizers import Tokenizer

    from export.nano.curriculum import Curriculum
    from export.nano.data import IGNORE, Batches, phone_table
    from export.nano.multilingual import begin

    begin(english, tmp_path / "both", tmp_path / "multi", 320, ["en", "de"])
    tokens = Tokenizer.from_file(str(tmp_path / "multi" / "tokenizer" / "tokenizer.json"))
    phones = phone_table(corpus.read(tmp_path / "both"))
    stages = [(0, Curriculum(batch_s=24, joined=0.3, recorded=0))]
    batches = iter(Batches(tmp_path / "both", tokens, phones, [], 1, stages, 0))
    languages = {tokens.token_to_id(f"<|{c}|>"): c for c in SENTENCES}
    known = {c: {w for t in SENTENCES[c] for w in texts.words_of(t)} for c in SENTENCES}
    told: set[str] = set()
    for _ in range(8):
        for row in next(batches).targets.tolist():
            ids = [t for t in row if t != IGNORE]
            if ids[0] not in languages:
                continue  # noise
            code = languages[ids[0]]
            assert ids[1] == tokens.token_to_id("<|transcribe|>")
            words = texts.words_of(tokens.decode([i for i in ids if i < tokens.token_to_id("<|endoftext|>")]))
            assert set(words) <= known[code]
            told.add(code)
    assert told == {"en", "de"}
