"""What is said of a GPU that is not there or will not do, and of wheels that are missing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.gpu import machine, speech, wheels
from bench.gpu.__main__ import main
from bench.gpu.machine import Gpu, GpuUnusable, Sampler, find_gpu, parse_gpu, parse_sample
from bench.load import Clip
from export.engine.slots import DeviceUnavailable
from export.graph import Graph
from tests.conftest import ROOT

LISTED = "NVIDIA H100 80GB HBM3, 580.159.04, 81559, 81000\n"
HEADER = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.159.04             Driver Version: 580.159.04     CUDA Version: 13.0     |
"""
GPU = Gpu("NVIDIA H100 80GB HBM3", "580.159.04", "13.0", 81559, 81000)


def smi(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program called nvidia-smi, first on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_gpu_is_read():
    assert parse_gpu(LISTED, HEADER) == GPU
    assert parse_gpu(LISTED + "NVIDIA L4, 580.1, 24000, 24000\n", HEADER) == GPU


@pytest.mark.parametrize(
    ("listed", "header", "message"),
    [
        ("No devices were found\n", "", "lists no GPU: No devices were found"),
        ("", "", "it printed nothing"),
        (LISTED, "", "names no CUDA version"),
        ("NVIDIA H100 MIG, 580.1, [N/A], [N/A]\n", HEADER, "MIG slices are not supported"),
    ],
)
def test_what_nvidia_smi_says_when_something_is_wrong(listed: str, header: str, message: str):
    with pytest.raises(GpuUnusable, match=message):
        parse_gpu(listed, header)


def test_a_driver_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    smi(tmp_path / "bin", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", monkeypatch)
    with pytest.raises(GpuUnusable, match="version mismatch"):
        find_gpu()
    smi(
        tmp_path / "bin",
        f"case $1 in --query*) printf '{LISTED.strip()}\\n';; *) cat <<'X'\n{HEADER}X\n;; esac",
        monkeypatch,
    )
    assert find_gpu() == GPU
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GpuUnusable, match="no nvidia-smi"):
        find_gpu()


def test_drivers_and_memories_that_will_not_do():
    machine.check(GPU, "12.8")
    machine.check(GPU, "13.2")  # of one major version
    old = Gpu("A100", "535.1", "12.2", 40000, 39000)
    with pytest.raises(GpuUnusable, match=r"driver 535.1 runs CUDA 12.2.*built for 13.0: prepare with --cuda 12"):
        machine.check(old, "13.0")
    with pytest.raises(GpuUnusable, match="3000 MiB of A100 are free"):
        machine.check(Gpu("A100", "580.1", "13.0", 40000, 3000), "12.8")


def test_an_onnxruntime_for_cpus_is_named_as_such():
    with pytest.raises(GpuUnusable, match="the installed onnxruntime is the CPU's"):
        machine.onnxruntime_cuda()
    machine.check_sessions("cpu")
    with pytest.raises(DeviceUnavailable, match="has no CUDA"):
        machine.check_sessions("cuda")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("97, 4312, 512.33", (97.0, 4312.0, 512.33)),
        ("97, 4312, [N/A]", (97.0, 4312.0, 0.0)),
        ("[N/A], 4312, 5", None),
        ("utilization.gpu [%], memory.used [MiB], power.draw [W]", None),
        ("", None),
    ],
)
def test_samples(line: str, expected: tuple[float, float, float] | None):
    assert parse_sample(line) == expected


def test_a_gpu_is_sampled_while_something_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    smi(tmp_path / "bin", "while :; do echo '50, 1000, 300'; echo '70, 3000, [N/A]'; sleep 0.05; done", monkeypatch)
    with Sampler("cuda") as sampler:
        deadline = time.monotonic() + 30
        while sampler.summary() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    found = sampler.summary()
    assert found
    assert found["gpu_memory_mib"] in (1000.0, 3000.0)
    assert 50 <= found["gpu_percent"] <= 70
    with Sampler("cpu") as sampler:
        pass
    assert sampler.summary() is None


def test_without_a_gpu_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["check", "--out", str(tmp_path)]) == 1
    assert "no nvidia-smi" in capsys.readouterr().err


def test_it_is_told_which_operators_run_where(tmp_path: Path):
    g = Graph("x")
    x = g.input("x", ["n"])
    g.output(g.op("Sin", g.op("Add", x, x)), "y", ["n"])
    g.save(tmp_path / "g.onnx")
    (found,) = machine.placement(tmp_path / "g.onnx", "cpu").items()
    assert found[0] == "CPUExecutionProvider"
    assert found[1]["Add"] == found[1]["Sin"] == 1


# --- wheels -------------------------------------------------------------------------------------------------------

LOCK = """\
# comment
av==18.1.0 ; python_full_version < '3.12'
av==19.0.2 ; python_full_version >= '3.12'
colorama==0.4.6 ; sys_platform == 'win32'
hf-xet==1.8.0 ; platform_machine == 'AMD64' or platform_machine == 'x86_64'

uvloop==0.23.0 ; sys_platform == 'linux'
"""


def test_a_lock_is_read_for_the_other_machine():
    assert wheels.locked(LOCK, "3.11") == ["av==18.1.0", "hf-xet==1.8.0", "uvloop==0.23.0"]
    assert wheels.locked(LOCK, "3.12")[0] == "av==19.0.2"


@pytest.mark.parametrize("cuda", [12, 13])
def test_every_pin_is_exact_and_there_is_one_onnxruntime(cuda: int):
    found = wheels.pins("3.12", cuda)
    names = [p.split("==")[0] for p in found]
    assert all(p.count("==") == 1 for p in found)
    assert len(set(names)) == len(names)
    assert [n for n in names if n.startswith("onnxruntime")] == ["onnxruntime-gpu"]
    assert {"nvidia-pytriton", "numpy", "faster-whisper", "matplotlib", "jiwer"} <= set(names)
    assert any(n.startswith("nvidia-cudnn") for n in names)
    assert not any(n.startswith("nvidia-cu") for n in (p.split("==")[0] for p in wheels.pins("3.12", cuda, libraries=False)))


def wheel(folder: Path, name: str) -> None:
    """The smallest that pip installs."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "said = 'here'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def script(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """bench/gpu/run.sh, without any index."""
    given = {"WHEELS": str(tmp_path / "wheels"), "VENV": str(tmp_path / "venv"), "PYTHON": sys.executable}
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    return subprocess.run(
        [str(ROOT / "bench" / "gpu" / "run.sh"), *words], env=os.environ | offline | given | environment, text=True,
        capture_output=True, timeout=150,
    )  # fmt: skip


def test_the_script_sets_up_an_environment_from_the_folder_alone(tmp_path: Path):
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "voiceforge_test_wheel")
    (tmp_path / "wheels" / wheels.PINS).write_text("voiceforge_test_wheel==1.0\n")
    done = script(tmp_path, "check", "--out", str(tmp_path / "out"))
    python = tmp_path / "venv" / "bin" / "python"
    said = subprocess.run([python, "-c", "import voiceforge_test_wheel as v; print(v.said)"], capture_output=True, text=True)
    assert said.stdout == "here\n", done.stderr
    assert "No module named 'onnxruntime'" in done.stderr  # it went on to the command, and the folder had no more


def test_the_script_says_what_is_missing(tmp_path: Path):
    done = script(tmp_path, "check", PYTHON="/bin/false")
    assert done.returncode
    assert "Python 3.11 or 3.12 is needed" in done.stderr
    done = script(tmp_path, "check")
    assert done.returncode
    assert "python -m bench.gpu prepare" in done.stderr
    (tmp_path / "wheels").mkdir()
    done = script(tmp_path, "check")
    assert "has no requirements.txt" in done.stderr
    wheel(tmp_path / "wheels", "voiceforge_test_wheel")
    (tmp_path / "wheels" / wheels.PINS).write_text("voiceforge_test_wheel==1.0\nonnxruntime-gpu==1.26.0\n")
    done = script(tmp_path, "check")
    assert "onnxruntime-gpu==1.26.0" in done.stderr
    (tmp_path / "wheels" / wheels.PINS).write_text("voiceforge_test_wheel==1.0\n")
    done = script(tmp_path, "check", LIBRARIES=str(tmp_path))
    assert "there is no nvidia/*/lib" in done.stderr


# --- speech -------------------------------------------------------------------------------------------------------


def test_speech_is_carried_as_it_was(tmp_path: Path):
    r = np.random.default_rng(1)
    made = [Clip(r.integers(-9, 9, n).astype(np.int16), f"text {n}", n // 4, n // 2) for n in (400, 1000, 10)]
    speech.save(made, tmp_path / speech.FILE)
    for ours, theirs in zip(speech.clips(tmp_path, 3), made, strict=True):
        np.testing.assert_array_equal(ours.audio, theirs.audio)
        assert (ours.text, ours.speech_start, ours.speech_end) == (theirs.text, theirs.speech_start, theirs.speech_end)
    assert len(speech.clips(tmp_path, 2)) == 2


def test_speech_that_is_not_there_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(speech.SpeechMissing, match="no espeak-ng"):
        speech.clips(tmp_path, 3)
    (tmp_path / speech.FILE).write_bytes(b"no archive")
    with pytest.raises(speech.SpeechMissing, match="prepare again"):
        speech.clips(tmp_path, 3)
