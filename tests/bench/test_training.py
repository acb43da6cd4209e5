"""The benchmark of a training step takes one."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training needs torch; make test installs it")


def test_a_step_of_training_is_timed_in_its_two_parts():
    from bench.training import seconds_a_step

    took = seconds_a_step(bf16=False, muon=False, steps=1)
    assert len(took) == 2
    assert min(took) > 0
