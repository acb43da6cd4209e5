"""Test clips for benchmarks: held-out sentences in seen voices, with the true ends of speech."""

from __future__ import annotations

import random

from bench.load import Clip
from export.nano import synth, texts


def clips(n: int, seed: int = 77) -> list[Clip]:
    """`n` held-out sentences of 4 words and more (espeak-ng and flite know where speech begins and ends)."""
    r = random.Random(seed)
    out: list[Clip] = []
    for text in texts.corpus(4 * n + 40, seed, held_out=True):
        voice = synth.seen_voice(r)
        if voice.engine == "festival" or len(text.split()) < 4:
            continue
        u = synth.synthesise(text, voice)
        spoken = [p for p in u.phones if p[0] not in synth.PAUSES]
        if not spoken or len(u.audio) > 9 * synth.SAMPLE_RATE:
            continue
        start, end = round(spoken[0][1] * synth.SAMPLE_RATE), round(spoken[-1][2] * synth.SAMPLE_RATE)
        out.append(Clip(u.audio, text, start, min(end, len(u.audio))))
        if len(out) == n:
            break
    return out
