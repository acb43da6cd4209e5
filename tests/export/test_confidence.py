"""Word confidence: fitted to what was right, and worn by the words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.confidence import calibration_error, fitted, judged
from export.engine.confidence import FILE, Calibrator, WordFeatures


@pytest.mark.parametrize(
    ("said", "heard", "right"),
    [
        ("The cat sat.", ["The", "cat", "sat."], [True, True, True]),
        ("The cat sat.", ["the", "cats", "sat"], [True, False, True]),
        ("The cat sat.", ["The", "big", "cat", "sat."], [True, False, True, True]),
        ("The cat sat.", ["cat"], [True]),
        ("The cat sat.", [], []),
        ("", ["Thanks."], [False]),
        ("Twenty-one cats.", ["Twenty", "one", "cats"], [True, True, True]),
        ("One.", ["-", "One"], [False, True]),
    ],
)
def test_a_recognised_word_is_right_where_the_alignment_says_so(said: str, heard: list[str], right: list[bool]):
    assert judged(said, heard) == right


def invented(n: int = 4000) -> tuple[list[WordFeatures], list[bool], np.ndarray]:
    """Words whose chance to be right is known."""
    r = np.random.default_rng(1)
    mean = -r.exponential(0.6, n)
    chance = 1 / (1 + np.exp(-(2.0 + 2.5 * mean)))
    features = [WordFeatures(m, m - 0.1, -m, float(d), m) for m, d in zip(mean, r.uniform(0.1, 0.8, n), strict=True)]
    return features, (r.random(n) < chance).tolist(), chance


def test_the_fit_finds_the_chance_of_being_right():
    features, right, chance = invented()
    calibrator = fitted(features, right)
    found = np.array([calibrator.probability(f) for f in features])
    assert np.abs(found - chance).mean() < 0.03
    assert calibration_error(found.tolist(), right) < 0.03
    as_decoded = calibration_error([Calibrator().probability(f) for f in features], right)
    assert as_decoded > 0.05, "what was decoded was calibrated already: this test shows nothing"


def test_the_calibration_error_is_the_distance_between_claimed_and_true():
    assert calibration_error([0.95] * 100, [True] * 95 + [False] * 5) == pytest.approx(0.0)
    assert calibration_error([0.95] * 100, [True] * 45 + [False] * 55) == pytest.approx(0.5)
    assert calibration_error([0.05, 0.95], [False, True]) == pytest.approx(0.05)


def test_a_checkpoint_without_a_fit_says_the_mean_of_its_tokens(tmp_path: Path):
    assert Calibrator.load(tmp_path).probability(WordFeatures(np.log(0.5), -1.0, 1.0, 0.3, -0.7)) == pytest.approx(0.5)


@pytest.mark.parametrize("weights", [[0] * 6, [0] * 5])
def test_a_fit_is_read_from_beside_the_checkpoint_an_older_one_too(tmp_path: Path, weights: list[float]):
    (tmp_path / FILE).write_text(json.dumps({"weights": weights, "intercept": 0.0}))
    assert Calibrator.load(tmp_path).probability(WordFeatures(-9.0, -9.0, 9.0, 0.1, -9.0)) == 0.5


def test_any_features_give_a_probability():
    for extreme in (WordFeatures(-1e4, -1e4, 0.0, 0.0, -1e4), WordFeatures(0.0, 0.0, 100.0, 1e5, 0.0)):
        assert 0 <= Calibrator((5.0,) * 6, 1.0).probability(extreme) <= 1
