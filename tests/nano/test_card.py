"""Model cards: what they say comes from the checkpoint, the run's log and the scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.nano import card
from export.repository import IN_THE_BOX

SCORES = {
    "precision": "fp32",
    "beam_size": 5,
    "normaliser": "some normaliser",
    "sets": {"seen": {"wer": 9.87, "n_words": 1234}},
    "languages": {"en": 0.99, "de": 0.975},
    "timestamps": {"median_s": 0.011, "p95_s": 0.077, "within_0.2_s": 0.998},
}


@pytest.mark.parametrize("name", IN_THE_BOX)
def test_a_card_says_what_it_was_given(name: str, tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 4250, "audio_s_per_s": 72.0}) + "\n")
    scores, greedy = tmp_path / "scores.json", tmp_path / "greedy.json"
    scores.write_text(json.dumps(SCORES))
    greedy.write_text(json.dumps({**SCORES, "beam_size": 1, "sets": {"seen": {"wer": 12.34, "n_words": 1234}}}))
    text = card.text(tmp_path, IN_THE_BOX[name], [scores, greedy])
    assert text.startswith("---\nlicense: apache-2.0\n")
    for said in (
        f"# {name}: ",
        "4,250 steps",
        "A beam of 5, one pass",
        "| set | fp32 | fp32, greedy | words |",
        "| seen | 9.87 % | 12.34 % | 1234 |",
        "de 97.5 %",
        "median error 11 ms",
        "99.8 % within",
    ):
        assert said in text
    codes = json.loads((IN_THE_BOX[name] / "generation_config.json").read_text()).get("lang_to_id")
    assert ("English only" in text) is not bool(codes)
    assert ("German" in text) is bool(codes)
