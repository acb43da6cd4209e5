"""Settings on the command line become settings of sessions, or an error that lists what there is."""

from __future__ import annotations

import pytest

from bench.policy import assigned, report
from frontend.speech.settings import SessionSettings


def test_fields_are_set_wherever_they_are():
    assert assigned("vad.pre_roll=4800").vad.pre_roll == 4800
    assert assigned("stable.policy=align_att").stable.policy == "align_att"
    assert assigned("patience=3").patience == 3
    assert assigned("utterance_end=16000").utterance_end == 16000
    assert assigned("vad.pre_roll=6400") == SessionSettings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vad.preroll=1", "pre_roll"),
        ("preroll=1", "max_segment"),
        ("vad=1", "vad.…"),
        ("patience.more=1", "patience"),
        ("vad.pre_roll", "name=value"),
        ("vad.pre_roll=long", "like 6400"),
        ("vad.pre_roll=1.5", "like 6400"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str):
    with pytest.raises(ValueError, match=told):
        assigned(text)


def test_the_report_has_a_row_for_each_setting_and_set():
    row = {"wer": 12.5, "gap": 0.5, "churn": 0.1, "settled_after_s": {"p50": 0.5, "p95": 1.0}}
    told = report({"seen": {"offline": {"wer": 12.0}, "as it is": row}}, {"as it is": {"0.1 s between": {"wer": 13.0}}})
    assert "| seen | offline | 12.0 |" in told
    assert "| seen | as it is | 12.5 | 0.5 | 0.1 | 0.5 | 1.0 |" in told
    assert "| as it is | 13.0 |" in told
