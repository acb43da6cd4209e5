"""The figures of a step, computed from expositions of both servers and of this machine."""

from __future__ import annotations

import pytest

from frontend.capacity.exposition import parse, together
from frontend.capacity.heard import heard, quantiles
from frontend.capacity.servers import Gpu, Here, Reading, Usage, part_of
from frontend.capacity.slo import Verdict
from frontend.capacity.step import Step, step
from frontend.capacity.stream import Measured

FRONT = """\
process_cpu_seconds_total{{worker="0"}} {cpu}
process_cpu_seconds_total{{worker="1"}} {half}
process_resident_memory_bytes{{worker="0"}} 104857600
voiceforge_connections{{worker="0"}} {connections}
voiceforge_engine_lag_seconds{{worker="0"}} 0.02
voiceforge_engine_lag_seconds{{worker="1"}} 0.04
voiceforge_audio_seconds_total{{worker="0"}} {audio}
voiceforge_speech_seconds_total{{worker="0"}} {half}
voiceforge_partials_total{{worker="0"}} {audio}
voiceforge_finals_total{{worker="0"}} {half}
voiceforge_refused_total{{code="ENGINE_BUSY",worker="0"}} {refused}
"""
TRITON = """\
nv_inference_exec_count{{model="silero_vad",version="1"}} {n}
nv_inference_count{{model="silero_vad",version="1"}} {twice}
nv_inference_request_success{{model="silero_vad",version="1"}} {twice}
nv_inference_queue_duration_us{{model="silero_vad",version="1"}} {us}
nv_inference_compute_infer_duration_us{{model="silero_vad",version="1"}} {us}
nv_inference_pending_request_count{{model="silero_vad",version="1"}} 3
nv_inference_exec_count{{model="whisper_nano",version="1"}} {n}
nv_inference_count{{model="whisper_nano",version="1"}} {n}
voiceforge_decode_seconds{{model="whisper_nano",instance="0"}} {half}
voiceforge_decode_seconds{{model="whisper_nano",instance="1"}} {half}
voiceforge_decode_steps{{model="whisper_nano",instance="0"}} {n}
voiceforge_decode_row_steps{{model="whisper_nano",instance="0"}} {twice}
voiceforge_decode_slots{{model="whisper_nano",instance="0"}} 32
voiceforge_model_cpu_seconds{{model="whisper_nano",instance="0"}} {half}
voiceforge_model_cpu_seconds{{model="whisper_nano",instance="1"}} {half}
voiceforge_model_memory_bytes{{model="whisper_nano",instance="0"}} 104857600
voiceforge_tritonserver_cpu_seconds{{model="whisper_nano",instance="0"}} {half}
voiceforge_tritonserver_cpu_seconds{{model="whisper_nano",instance="1"}} {half}
voiceforge_tritonserver_memory_bytes{{model="whisper_nano",instance="0"}} 104857600
voiceforge_tritonserver_memory_bytes{{model="whisper_nano",instance="1"}} 104857600
nv_inference_exec_count{{model="somebody_elses",version="1"}} {n}
"""
GPU = """\
nv_gpu_utilization{{gpu_uuid="a"}} {use}
nv_gpu_utilization{{gpu_uuid="b"}} 0.1
nv_gpu_memory_total_bytes{{gpu_uuid="a"}} 1000
nv_gpu_memory_used_bytes{{gpu_uuid="a"}} 800
"""


def reading(at: float, *, refused: int = 0, gpu: str = "", local: bool = True) -> Reading:
    """Counters have grown by one a second, halves and doubles accordingly; Triton's thousand microseconds each."""
    n = 100 + at
    front = FRONT.format(cpu=n, half=n / 2, connections=at, audio=n, refused=refused)
    triton = TRITON.format(n=n, twice=2 * n, half=n / 2, us=n * 100_000) + gpu
    here = Here(n / 4, 2 * n, 4, 0.3) if local else Here(n / 4)
    return Reading(parse(front, at), together({"http://t": parse(triton, at)}), here)


def measured(readings: list[Reading], full: tuple[float, float]) -> Step:
    return step(7, readings, full, heard([Measured()], None), Verdict())


def test_figures_are_of_the_time_in_which_all_streams_spoke():
    found = measured([reading(0), reading(10), reading(20), reading(30), reading(50, refused=4)], (9.0, 31.0))
    assert found.seconds == 20.0
    assert found.front.connections == 20
    assert (found.front.cores, found.front.busiest, found.front.workers) == (1.5, 1.0, 2)
    assert found.front.memory_mib == 100.0
    assert found.front.engine_lag_p95_ms == 40.0
    assert found.front.partials_per_final == 2.0
    assert found.front.speech_share == 0.5
    assert found.front.refused == {"ENGINE_BUSY": 4}, "of the whole step: they are refused when it begins"
    assert found.usage == Usage(0.25, 2.0, 4, 0.3)


def test_all_readings_count_where_few_lie_in_that_time():
    assert measured([reading(0), reading(10)], (3.0, 9.0)).seconds == 10.0


def test_models_of_triton():
    found = measured([reading(0), reading(10)], (0.0, 10.0)).triton
    assert [m.part for m in found.models] == ["VAD", "decoder"], "somebody else's are none of ours"
    vad, decoder = found.models
    assert (vad.requests_s, vad.batch, vad.pending, vad.instances) == (2.0, 2.0, 3.0, 1)
    assert (vad.queue_ms, vad.compute_ms) == (50.0, 50.0)
    assert vad.busy == 0.05, "two requests of a batch take their time together"
    assert (decoder.instances, decoder.batch, decoder.slots, decoder.busy, decoder.cores) == (2, 2.0, 32, 0.5, 1.0)
    assert found.cores == 1.5, "each engine tells of the same tritonserver"
    assert found.memory_mib == 200.0
    assert found.gpu == Gpu(None, None)


def test_a_gpu_is_the_fullest_card():
    found = measured([reading(0, gpu=GPU.format(use=0.4)), reading(10, gpu=GPU.format(use=0.8))], (0.0, 10.0))
    assert found.triton.gpu == Gpu(0.6, 0.8)


def test_of_a_server_elsewhere_the_machine_is_unknown():
    assert measured([reading(0, local=False), reading(10, local=False)], (0.0, 10.0)).usage == Usage(0.25)


def test_parts_are_known_by_their_names():
    names = ["silero_vad", "whisper_base.en_encoder", "whisper_base.en", "resnet"]
    assert [part_of(n) for n in names] == ["VAD", "encoder", "decoder", None]


def test_sentences_without_a_final_are_late_without_end():
    assert quantiles([0.1] * 99, 1) == {"p50": 100.0, "p95": 100.0}
    assert quantiles([0.1] * 90, 10) == {"p50": 100.0, "p95": None}
    assert quantiles([], 3) == quantiles([]) == {"p50": None, "p95": None}


def test_streams_together():
    played = Measured(
        connect=0.01, first_partial=[0.2, 0.3], final_lag=[0.6, 0.25], missed=["one"], client_lag=0.02, errors=["broken"]
    )
    found = heard([played, Measured(refusal="ENGINE_BUSY"), Measured(refusal="ENGINE_BUSY")], (3, 40))
    assert (found.sentences, found.missed, found.early, found.words, found.wer) == (3, 1, 1, 40, 7.5)
    assert (found.n_errors, found.refused, found.refusals) == (1, 2, {"ENGINE_BUSY": 2})
    assert found.client_lag_ms == 20.0
    assert found.final_lag_ms["p50"] == pytest.approx(100.0)
    assert heard([played], None).wer is None
