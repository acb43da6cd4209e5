"""`nano-multi` served by a real Triton: languages that are told, found once, found anew, and what is said in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from export.nano.evaluate import word_errors
from export.nano.synth import Utterance
from tests.conftest import Client, Server, client, silence

SAID = {
    "en": [
        "The train to London leaves at half past three.",
        "Could you open the window, please?",
        "She lives in Dublin.",
    ],
    "de": [
        "Der Zug nach Hamburg hat zehn Minuten Verspätung.",
        "Meine Schwester wohnt in Berlin.",
        "Wo ist der Bahnhof?",
    ],
    "es": ["Mi hermana vive en Madrid.", "El tren sale a las tres y media.", "¿Dónde está la farmacia?"],
    "fr": ["Ma sœur habite à Paris.", "Le train part à huit heures et demie.", "Où est la pharmacie?"],
    "it": ["Mia sorella abita a Roma.", "Il treno parte alle otto e mezza.", "Dove si trova la farmacia?"],
}
VOICES = {"en": "en-us", "de": "de", "es": "es", "fr": "fr", "it": "it"}
TOLERATED_WER = 40.0
"""Of three sentences a language; the model card has the error rates."""
Speak = Callable[..., Utterance]


async def say(c: Client, speak: Speak, *sentences: tuple[str, str]) -> None:
    """(language, sentence), a second and a half of silence behind each."""
    for code, sentence in sentences:
        await c.audio(np.concatenate([silence(0.3), speak(sentence, VOICES[code]).audio, silence(1.5)]))


@pytest.mark.parametrize("code", SAID)
async def test_a_language_that_is_told_is_understood_and_kept(multilingual_server: Server, speak: Speak, code: str):
    heard: list[str] = []
    for sentence in SAID[code]:
        async with client(multilingual_server.ws, language=code) as c:
            await say(c, speak, (code, sentence))
            await c.finish()
            heard.append(c.text())
            assert {f["language"] for f in c.finals()} == {code}
    score = word_errors(SAID[code], heard, code)
    assert score.wer <= TOLERATED_WER, heard


@pytest.mark.parametrize("code", SAID)
async def test_auto_finds_the_language_and_says_how_sure_it_is(multilingual_server: Server, speak: Speak, code: str):
    async with client(multilingual_server.ws, language="auto") as c:
        await say(c, speak, *((code, s) for s in SAID[code]))
        await c.finish()
        finals = [f for f in c.finals() if f["transcript"]]
    assert {f["language"] for f in finals} == {code}, [(f["language"], f["transcript"]) for f in finals]
    assert finals[0]["language_probability"] > 0.5


async def test_multi_finds_it_anew_for_each_utterance(multilingual_server: Server, speak: Speak):
    spoken = [(code, SAID[code][0]) for code in ("de", "fr", "en", "es")]
    async with client(multilingual_server.ws, language="multi") as c:
        await say(c, speak, *spoken)
        await c.finish()
        finals = [f for f in c.finals() if f["ends_utterance"] and f["transcript"]]
    assert [f["language"] for f in finals] == [code for code, _ in spoken], [f["transcript"] for f in finals]


async def test_auto_keeps_what_it_found(multilingual_server: Server, speak: Speak):
    async with client(multilingual_server.ws, language="auto") as c:
        await say(c, speak, ("it", SAID["it"][0]), ("it", SAID["it"][1]), ("de", SAID["de"][0]))
        await c.finish()
        assert {f["language"] for f in c.finals() if f["transcript"]} == {"it"}


async def test_a_fixed_language_is_honoured_whatever_is_spoken(multilingual_server: Server, speak: Speak):
    async with client(multilingual_server.ws, language="fr") as c:
        await say(c, speak, ("de", SAID["de"][0]))
        await c.finish()
        assert {f["language"] for f in c.finals()} == {"fr"}


async def test_ready_and_interims_tell_the_language_too(multilingual_server: Server, speak: Speak):
    async with client(multilingual_server.ws, language="auto", interim_results=True) as c:
        await c.audio(np.concatenate([speak(SAID["es"][1], "es").audio, silence(1.0)]), realtime=True)
        await c.finish()
        interims = [m for m in c.messages if m["type"] == "interim"]
    assert interims
    assert interims[-1]["language"] == "es"
