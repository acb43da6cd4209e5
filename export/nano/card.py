"""The model card of `nano`: what it is for, its data and licences, its numbers, its limits."""

from __future__ import annotations

import json
from pathlib import Path

ALIGNMENT_HEADS = [(1, 0), (1, 1), (1, 2), (1, 3)]
"""Cross-attention heads whose mean gives word times: the decoder's last layer."""

_HEAD = """\
---
license: apache-2.0
language: en
tags: [automatic-speech-recognition, whisper, synthetic-speech]
---

# nano: the checkpoint in the box

A Whisper of {parameters:.1f} million parameters in Hugging Face's format, trained from scratch by `python -m export.nano`.
It exists so that VoiceForge can be **tried out, tested and benchmarked** on any machine, with no download. It was trained on
synthetic voices, so **real speech wants a real Whisper**: `voiceforge models pull openai/whisper-base.en`.

## What it is
- Whisper's architecture: 4 encoder and 2 decoder layers, width 256, 4 heads, 80 mels; byte-level BPE of 1,536 tokens of its
  own, Whisper's special tokens and 1,501 timestamps after them. English only, prompt as in the official `.en` models.
- Trained on windows of 1-12 s and meant to be served so (`voiceforge.json`);
  30 s windows cost accuracy (16 % became 24 % on 30 utterances).

## Data and licences
- Texts: a sentence generator (ours, Apache-2.0), usage examples of WordNet 3.0 (Princeton's WordNet licence), fortunes
  (BSD), both from Debian packages. One sentence in fifty is held out by a hash of its words.
- Voices: espeak-ng (GPL-3, program output), flite rms, slt, awb, kal16 (BSD-like), festival kal and cmu_us_slt_arctic_hts.
- Real speech: `kathleen_en/train`, 1.25 h of one US English speaker (rhasspy/dataset-voice-kathleen, CC0).
"""

_LIMITS = """
## Limits
- Voices, accents, rooms and microphones of the real world: expect it to be wrong most of the time.
- Names and rare words are spelled by ear. Numbers are written in words. No other language.
- It may invent words in noise; the server's voice activity detection keeps most of that away.
"""


def text(run: Path, scores: Path | None) -> str:
    """The card as Markdown. `run` holds `log.jsonl`; `scores` is what `evaluate --out` wrote."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    hours = sum(64 * 50 / max(1e-9, row["audio_s_per_s"]) for row in rows) / 3600
    out = [_HEAD.format(parameters=6.8)]
    out.append(
        f"\n## Training\n{rows[-1]['step']:,} steps of 64-80 s of audio, bf16 on two CPU cores, about {hours:.1f} hours.\n"
        "The schedule was still being tried during this run (dropout 0.1 up to step 3,500); `train.py` has\n"
        "it as it ended.\n"
    )
    if scores:
        content = json.loads(scores.read_text())
        out.append("\n## Word error rates\nGreedy, one pass; normaliser: whisper-normalizer EnglishTextNormalizer.\n\n")
        out.append("| set | WER | utterances | words |\n|---|---|---|---|\n")
        out += [f"| {n} | {s['wer']} % | {s['utterances']} | {s['words']} |\n" for n, s in content.items()]
        out.append(
            "\n`seen`: held-out sentences in voices trained on; `unseen`: the same in voices and accents that were not.\n"
        )
    out.append(_LIMITS)
    return "".join(out)
