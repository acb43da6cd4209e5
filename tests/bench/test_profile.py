"""`bench.profile`: what is read from perf's report."""

from __future__ import annotations

import pytest

from bench.profile import library, shares, table

REPORT = """\
# Samples: 3K of event 'cpu-clock:ppp'
#
# Overhead;    Pid:Command;Shared Object

 40.25;    417:triton_python_b;onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so
 20.00;    417:triton_python_b;libpython3.11.so.1.0
 15.50;    12:voiceforge;cygrpc.cpython-311-x86_64-linux-gnu.so
 10.00;    12:voiceforge;[kernel.kallsyms]
  9.25;    400:tritonserver;tritonserver
  5.00;    999:sleep;libc.so.6
"""
NAMES = {417: "encoder stub", 12: "front end", 400: "tritonserver"}


def test_samples_are_counted_by_process_and_library():
    found = shares(REPORT, NAMES)
    assert found["encoder stub"] == {"ONNX Runtime": 40.25, "Python": 20.0}
    assert found["front end"] == {"gRPC": 15.5, "kernel": 10.0}
    assert found["tritonserver"] == {"Triton": 9.25}
    assert found["other"] == {"C library": 5.0}


def test_the_table_has_the_largest_first_and_sums():
    lines = table(shares(REPORT, NAMES)).splitlines()
    assert lines[0].startswith("| % of CPU | ONNX Runtime | Python | gRPC |")
    assert lines[2].startswith("| encoder stub | 40.2 | 20.0 | 0.0 |")
    assert lines[-1].split("|")[1].strip() == "together"
    assert lines[-1].endswith("| 100.0 |")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("_multiarray_umath.cpython-311-x86_64-linux-gnu.so", "numpy"),
        ("loop.cpython-311-x86_64-linux-gnu.so", "event loop"),
        ("libtriton_python.so", "Triton"),
        ("triton_python_backend_stub", "Triton"),
        ("libstdc++.so.6.0.30", "C library"),
        ("[vdso]", "kernel"),
        ("[JIT] tid 12", "other"),
    ],
)
def test_a_file_belongs_to_a_library(file: str, name: str):
    assert library(file) == name
