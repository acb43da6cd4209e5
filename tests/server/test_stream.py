"""Speech in, text out, through the real server and the real Triton."""

from __future__ import annotations

import numpy as np

from tests.conftest import Client, Server, client, silence

SENTENCES = ["The train to London leaves at half past three.", "Please open the window in the kitchen."]


async def _hear(server: Server, audio: np.ndarray, **query: object) -> Client:
    async with client(server.ws, **query) as c:
        await c.audio(audio)
        await c.finish()
        return c


async def test_sentences_come_out_as_finals_with_words_in_order(server, speak):
    said = [speak(s) for s in SENTENCES]
    audio = np.concatenate([silence(0.5), said[0].audio, silence(1.2), said[1].audio, silence(1.0)])
    c = await _hear(server, audio)
    finals = c.finals()
    assert len(finals) == 2
    for final, sentence in zip(finals, SENTENCES, strict=True):
        assert final["is_final"]
        assert final["words"]
        assert " ".join(w["word"] for w in final["words"]) == final["transcript"]
        assert final["transcript"].split()[0].lower() == sentence.split()[0].lower()
    starts = [w["start"] for f in finals for w in f["words"]]
    assert starts == sorted(starts)
    assert c.messages[-1]["audio_s"] == round(len(audio) / 16000, 3)
