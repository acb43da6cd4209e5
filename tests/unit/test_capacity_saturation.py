"""What is concluded from the figures of a ramp: what was full first, and what to set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from frontend.capacity.advice import admit_lag_s, advise
from frontend.capacity.saturation import WORDS, saturation
from frontend.capacity.servers import Gpu, Usage
from frontend.capacity.slo import FINAL_LAG_MS, Verdict, ends_ramp, streams_at_slo
from frontend.capacity.step import Step
from tests.unit.capacity_steps import heard, step

IDLE = step(1)
ALONE = IDLE.heard
LATE = heard(900.0)
FULL: dict[str, Step] = {
    "client": step(9, heard=heard(client_lag_ms=150.0)),
    "front end": step(9, front_busiest=0.95),
    "VAD": step(9, vad=0.9),
    "encoder": step(9, encoder=0.9, decoder=0.86),
    "decoder": step(9, decoder=0.9),
    "slots": step(9, batch=30.0),
    "GPU": step(9, gpu=Gpu(0.97, 0.5)),
    "GPU memory": step(9, gpu=Gpu(0.5, 0.97)),
    "memory": step(9, usage=Usage(0.1, 0.8, 4, 0.93)),
    "machine": step(9, usage=Usage(0.8, 3.9, 4, 0.2), triton_cores=2.5, cores=0.5, decoder=0.99),
    "other programs": step(9, usage=Usage(0.1, 3.9, 4, 0.2)),
    "connections": step(9, heard=heard(refusals={"TOO_MANY_CONNECTIONS": 3})),
    "queue": step(9, heard=LATE, alone=ALONE, final_p95_ms=700.0),
}


def test_each_thing_that_can_be_full_has_a_case_here():
    assert set(FULL) == set(WORDS)


@pytest.mark.parametrize(("what", "full"), FULL.items(), ids=FULL.keys())
def test_what_is_full_is_found_with_its_figures_first(what: str, full: Step):
    found = saturation([IDLE, full, replace(full, streams=20)])
    assert (found.what, found.at) == (what, 9)
    assert WORDS[what] in str(found)
    assert found.evidence


def test_nothing_is_full_in_an_idle_ramp():
    found = saturation([IDLE, step(8)])
    assert (found.what, found.at, str(found)) == ("", None, "Nothing was full.")
    assert "machine: 20 % of its 4 cores, whoever uses them" in found.evidence


def test_a_late_client_on_a_full_machine_is_the_machines_doing():
    crammed = step(9, usage=Usage(0.8, 3.9, 4, 0.2), triton_cores=2.5, cores=0.5, heard=heard(client_lag_ms=180.0))
    found = saturation([IDLE, crammed])
    assert found.what == "machine"
    assert "this command sent audio up to 180 ms late" in found.evidence
    assert "Triton uses 2.50 cores" in found.evidence


def test_a_step_with_a_late_client_is_passed_over_where_a_later_one_tells_more():
    late = step(9, heard=heard(client_lag_ms=130.0))
    assert saturation([IDLE, late, step(20, decoder=0.95)]).at == 20
    assert saturation([IDLE, late, step(20)]).what == "client"


def test_an_slo_broken_for_no_reason_that_anybody_tells_is_not_guessed_at():
    assert saturation([IDLE, step(9, heard=heard(wer=30.0), alone=ALONE)]).what == ""


def test_a_server_elsewhere_is_judged_without_its_machine():
    far = step(9, usage=Usage(0.2), decoder=0.9)
    assert far.others_cores is None
    assert saturation([far]).what == "decoder"


def test_streams_at_slo_are_those_of_the_largest_step_that_met_it():
    met, late, void = Verdict(), Verdict(("late",)), Verdict(void="late client")
    assert streams_at_slo([(1, met), (10, late), (20, met), (40, void)]) == 20
    assert streams_at_slo([(1, late)]) == 0


def test_a_ramp_ends_when_two_steps_in_a_row_tell_the_same_or_the_server_refuses():
    met, late, void = Verdict(), Verdict(("late",)), Verdict(void="late client")
    assert ends_ramp([met, late], refused=False) == ""
    assert ends_ramp([late, met, late], refused=False) == ""
    assert "SLO" in ends_ramp([met, late, late], refused=False)
    assert "client" in ends_ramp([void, void], refused=False)
    assert ends_ramp([void, late], refused=False) == ""
    assert "refused" in ends_ramp([met], refused=True)


RAMP = [step(1), step(10), step(20, heard=LATE, alone=ALONE, engine_lag_ms=800.0, decoder=0.95)]


def test_advice_is_of_the_last_step_that_met_the_slo():
    advice = advise(RAMP, saturation(RAMP), target=50)
    assert advice
    assert (advice.streams, advice.plan, advice.limited) == (10, 7, True)
    assert (advice.max_connections, advice.workers, advice.servers) == (10, 1, 8)
    assert "--tune instances=2" in advice.instances
    assert ("more streams than planned", "sum(voiceforge_connections) > 7") in advice.alarms


def test_a_ramp_that_found_no_end_sets_no_limit():
    advice = advise(RAMP[:2], saturation(RAMP[:2]))
    assert advice
    assert (advice.limited, advice.max_connections, advice.servers) == (False, None, None)
    assert "what was tried" in " ".join(advice.reasons)


def test_no_advice_where_no_step_met_the_slo():
    broken = [step(1, heard=LATE, alone=ALONE)]
    assert advise(broken, saturation(broken)) is None


def test_more_front_ends_where_one_is_busy():
    busy = [step(1), step(100, front_busiest=0.9)]
    advice = advise(busy, saturation(busy))
    assert advice
    assert advice.workers == 2


@pytest.mark.parametrize("what", FULL)
def test_whatever_is_full_there_is_advice(what: str):
    steps = [IDLE, FULL[what]]
    advice = advise(steps, saturation(steps))
    assert advice
    assert advice.instances


def test_sessions_are_admitted_up_to_a_lag_between_good_and_bad_that_leaves_the_slo_whole():
    assert admit_lag_s(RAMP) == 0.4  # the middle of 10 and 800 ms; 100 ms of the 500 are used without any load
    assert admit_lag_s([step(1), step(9, heard=LATE, alone=ALONE, engine_lag_ms=200.0)]) == 0.1
    slow = heard(FINAL_LAG_MS - 50)
    assert admit_lag_s([step(1, heard=slow), step(9, heard=LATE, alone=slow, engine_lag_ms=5000.0)]) == 0.1
    assert admit_lag_s([step(1)]) == 0.3  # the server's default: nothing was found out
    assert admit_lag_s([step(1, engine_lag_ms=50.0), step(9, heard=LATE, alone=ALONE, engine_lag_ms=40.0)]) == 0.3
