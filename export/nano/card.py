"""The model card of `nano`: what it is for, its data and licences, its numbers, its limits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

BATCH_S = 72

ALIGNMENT_HEADS = [(1, 0), (1, 1), (1, 2), (1, 3)]
"""Cross-attention heads whose mean gives word times: the decoder's last layer."""

_HEAD = """\
---
license: apache-2.0
language: {yaml}
tags: [automatic-speech-recognition, whisper, synthetic-speech]
---

# {name}: {title}

A Whisper of {parameters:.1f} million parameters in Hugging Face's format, trained from scratch by `python -m export.nano`.
It exists so that VoiceForge can be **tried out, tested and benchmarked** on any machine, with no download. It was trained on
synthetic voices, so **real speech wants a real Whisper**: `voiceforge models pull {real}`.

## What it is
- Whisper's architecture: {encoder_layers} encoder and {decoder_layers} decoder layers, width {d_model}, {heads} heads, \
{n_mels} mels; byte-level BPE of {tokens:,} tokens of its own,
  Whisper's special tokens and 1,501 timestamps after them. {prompt}
- Trained on windows of 1-12 s, now and then 30 s, and meant to be served so (`voiceforge.json`).

## Data and licences
- Texts: a sentence generator (ours, Apache-2.0), definitions and usage examples of WordNet 3.0 (Princeton's WordNet
  licence), fortunes (BSD), words of a dictionary (wamerican, public domain), all from Debian packages. One sentence in
  fifty is held out by a hash of its words.
{more_texts}- Voices: espeak-ng (GPL-3, program output), flite rms, slt, awb, kal16 (BSD-like), festival kal and
  cmu_us_slt_arctic_hts{more_voices}{natural}.
{noises}- Real speech: `kathleen_en/train`, 1.25 h of one US English speaker (rhasspy/dataset-voice-kathleen, CC0).
"""

_ENGLISH = {
    "title": "the checkpoint in the box",
    "real": "openai/whisper-base.en",
    "prompt": "English only, prompt as in the official `.en` models.",
    "more_texts": "",
    "more_voices": "",
    "natural": "; from step 20,400 on SVOX Pico en-US and en-GB (Apache-2.0),\n  from 25,000 on hibari and 1,450 sentences "
    "by Kokoro-82M (both Apache-2.0)",
    "noises": "- Noises: a generator; from step 35,600 on 1,080 sounds of Debian's packages of games, drawing and music "
    "(GPL-2+, GPL-3,\n  LGPL, CC-BY-SA, GFDL, MPL, CC0; docs/models.md names them).\n",
}
_MULTILINGUAL = {
    "title": "the checkpoint in the box, of several languages",
    "real": "openai/whisper-base",
    "prompt": "Transcribes {languages} and\n  finds out which of them it hears; does not translate.",
    "more_texts": "- German, Spanish, French, Italian: phrase books (ours, Apache-2.0), GIMP's manual (GFDL), the Debian\n"
    "  Administrator's Handbook (GPL-2+ or CC-BY-SA 3.0), fortunes in German, Spanish and Italian (GPL, or free to copy).\n",
    "more_voices": ", for Italian also lp and pc (GPL-2+, program output)",
    "natural": "; from step 5,200 on SVOX Pico (Apache-2.0),\n  from 10,800 on, in English, hibari and 1,450 sentences by "
    "Kokoro-82M (both Apache-2.0)",
    "noises": "",
}

_HISTORY = """the stages are in `curriculum.py`.
The first 20,400 steps took 9 hours of a core or two.
The encoder began with 4 layers and was made deeper after 11,600 steps (`python -m export.nano deepen`);
the first 14,750 steps were AdamW's alone, before `train.py` took Muon; from step 17,250 on, two runs with a core each
averaged their weights every hundred steps, and from 17,850 on three quarters of the recordings were
put together from halves of two. From 20,400 on: 94,000 utterances, SVOX Pico's voices among those that speak them, other
microphones, another pace, crowds and calls as noise, and, where the audio begins within a sentence, what was said before as
a prompt. From 25,000 to 30,781, nine minutes of an H200 and 16 cores: 720 s of audio a step, each batch heard three times;
half of the utterances drawn by how rare their words are, sentences that follow without a pause, words of a dictionary,
voices of neural networks, no prompts. Since then two runs as before, flite's voices half of what they hear; from 32,100 on
with 26,000 sentences more in flite's and festival's voices, of words they had not said, from 33,000 on with cloth that rubs
and noises over and over. From 35,600 on, forty minutes of both cores: three utterances in four in noise, most of it
recorded, and the weights are the mean of those at both ends.
"""
_HISTORY_MULTILINGUAL = """the stages are `MULTILINGUAL` in `curriculum.py`.
It began with the layers of `nano` (`python -m export.nano multilingual`); two runs with a core each averaged their weights
every hundred steps. Three utterances in ten are English, the rest the other languages in equal parts. From 5,200 on:
94,000 utterances of English rather than 20,000, 88,000 more of the other languages, six in ten drawn by how rare their words
are, and more of French, Italian and English than of German and Spanish. From 10,800 to 16,562, nine minutes of an H200 and
16 cores: 720 s of audio a step, each batch heard three times; voices of neural networks in English, words of a dictionary,
sentences that follow without a pause. Since then on a core or two, English and flite's voices more often; from 17,179 to
19,990, an hour of both cores, every second sentence English, and the weights are the mean of those at both ends.
"""

_LIMITS = """
## Limits
- Voices, accents, rooms and microphones of the real world: expect it to be wrong most of the time.
- Names and rare words are spelled by ear. Numbers are written in words. No other language.
- It may invent words in noise; the server's voice activity detection keeps most of that away.
"""


_LEGEND = """
`seen`: held-out sentences in voices trained on; `unseen`: the same in voices and accents that were not; `in noise`: recorded
noises, at this SNR; `over a telephone line`: 8 kHz mu-law; `digits`: the free spoken digit dataset, one by one.
"""


def text(run: Path, checkpoint: Path, scores: Sequence[Path]) -> str:
    """The card as Markdown. `run` holds `log.jsonl`; `scores` are what `evaluate --out` wrote, one for each precision."""
    config = json.loads((checkpoint / "config.json").read_text())
    generation = json.loads((checkpoint / "generation_config.json").read_text())
    codes = [token[2:-2] for token in generation.get("lang_to_id", {})]
    shape = {name: config[name] for name in ("encoder_layers", "decoder_layers", "d_model")}
    shape |= {"heads": config["encoder_attention_heads"], "n_mels": config["num_mel_bins"], "tokens": config["eos_token_id"]}
    told = _MULTILINGUAL | {"prompt": _MULTILINGUAL["prompt"].format(languages=", ".join(codes))} if codes else _ENGLISH
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    hours = sum(BATCH_S * 50 / max(1e-9, row["audio_s_per_s"]) for row in rows) / 3600
    began = rows[0]["step"]  # of a run made of a packed checkpoint, where that one ended
    since = f"from {began:,} on in " if began > 1000 else ""
    found = [json.loads(path.read_text()) for path in scores]
    yaml = f"[{', '.join(codes)}]" if codes else "en"
    return "".join(
        [
            _HEAD.format(name=checkpoint.name, yaml=yaml, parameters=_parameters(checkpoint) / 1e6, **shape, **told),
            f"\n## Training\n{rows[-1]['step']:,} steps of 64-80 s of audio, ",
            f"{since}{hours:.1f} hours of a CPU core or two; ",
            _HISTORY_MULTILINGUAL if codes else _HISTORY,
            _error_rates(found) if found else "",
            _LIMITS,
        ]
    )


def _error_rates(found: list[dict[str, Any]]) -> str:
    """A column for each precision and way of decoding; timestamps as the first one has them."""
    tables = [{**f["sets"], **f.get("windows", {})} for f in found]
    lines = [
        f"| set | {' | '.join(f['precision'] + (', greedy' if f['beam_size'] == 1 else '') for f in found)} | words |",
        f"|---|{'---|' * (len(found) + 1)}",
    ]
    for name, score in tables[0].items():
        cells = [f"{t[name]['wer']} %" if name in t else "" for t in tables]
        lines.append(f"| {name} | {' | '.join(cells)} | {score['n_words']} |")
    others = " (other languages: its BasicTextNormalizer)" if "languages" in found[0] else ""
    how = f"A beam of {found[0]['beam_size']}, one pass; normaliser: {found[0]['normaliser']}"
    told = f"\n## Word error rates\n{how}{others}.\n\n"
    told += "\n".join(lines) + "\n" + _LEGEND
    if shares := found[0].get("languages"):
        right = ", ".join(f"{code} {100 * share:.1f} %" for code, share in shares.items())
        told += f"\nLanguage found from the first two seconds (`seen` sentences that are as long): {right}.\n"
    if times := found[0].get("timestamps"):
        median, p95, share = 1000 * times["median_s"], 1000 * times["p95_s"], 100 * times["within_0.2_s"]
        told += f"\nTimestamp tokens around the right text: median error {median:.0f} ms, p95 {p95:.0f} ms, "
        told += f"{share:.1f} % within 0.2 s.\n"
    return told


def _parameters(checkpoint: Path) -> int:
    with safe_open(checkpoint / "model.safetensors", "numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping
