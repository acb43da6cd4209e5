"""The wheels that a GPU machine needs, pinned: fetched where there is an index, installed where there is none.

Runs before anything is installed: the standard library and pip only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
PINS = "requirements.txt"
"""The list beside the wheels."""
REPLACED = "onnxruntime"
"""Shares its module with onnxruntime-gpu: one of them may be installed."""
MEASURING = (
    "contourpy", "cycler", "fonttools", "indic-numtowords", "jiwer", "kiwisolver", "matplotlib", "more-itertools", "pillow",
    "pyparsing", "python-dateutil", "regex", "tzdata", "whisper-normalizer",
)  # fmt: skip
"""Of the tests' lock: plots and word error rates."""
RUNTIME: Mapping[int, Sequence[str]] = {
    12: ("onnxruntime-gpu==1.26.0",),  # the last one on PyPI for CUDA 12
    13: ("onnxruntime-gpu==1.31.1",),
}
"""By CUDA's major version. CUDA 12 wants a driver of 525 or newer, CUDA 13 one of 580."""
LIBRARIES: Mapping[int, Sequence[str]] = {
    12: (
        "nvidia-cublas-cu12==12.9.3.13",
        "nvidia-cuda-nvrtc-cu12==12.9.86",
        "nvidia-cuda-runtime-cu12==12.9.79",
        "nvidia-cudnn-cu12==9.28.0.42",
        "nvidia-cufft-cu12==11.4.1.4",
        "nvidia-curand-cu12==10.3.10.19",
        "nvidia-nvjitlink-cu12==12.9.86",
    ),
    # 13.0 and 13.1: what a driver of 580 knows without leaning on minor version compatibility
    13: (
        "nvidia-cublas==13.1.2.11",
        "nvidia-cuda-nvrtc==13.0.88",
        "nvidia-cuda-runtime==13.0.96",
        "nvidia-cudnn-cu13==9.28.1.4",
        "nvidia-cufft==12.5.0.14",
        "nvidia-curand==10.4.5.25",
        "nvidia-nvjitlink==13.5.37",
    ),
}
"""What onnxruntime-gpu of that line asks for (its extras `cuda` and `cudnn`). CTranslate2, the peer, takes CUDA 12 only."""
PLATFORMS = (
    *(f"manylinux_2_{n}_x86_64" for n in (5, 12, 17, 24, 26, 27, 28, 31, 34, 35)),
    "manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64",
)  # fmt: skip
"""pip matches each by its exact name. 2.35 is glibc of Ubuntu 22.04, which nvidia-pytriton wants."""


class WheelsMissing(Exception):
    """What is not there, and how to get it."""


def locked(lock: str, python: str) -> list[str]:
    """The lines of a lock file that hold on Linux x86-64 with this Python, without their markers."""
    target = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "os_name": "posix",
        "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    found: list[str] = []
    for line in lock.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(target):
            found.append(f"{wanted.name}{wanted.specifier}")
    return found


def pins(python: str, cuda: int, *, libraries: bool = True) -> list[str]:
    """All that is installed: the project's lock with onnxruntime-gpu in place of onnxruntime, and CUDA's libraries."""
    serve = locked((ROOT / "requirements" / "serve.txt").read_text("utf-8"), python)
    test = locked((ROOT / "requirements" / "test.txt").read_text("utf-8"), python)
    measuring = [p for p in test if p.split("==")[0] in MEASURING]
    if absent := set(MEASURING) - {p.split("==")[0] for p in measuring}:
        raise WheelsMissing(f"requirements/test.txt no longer has {', '.join(sorted(absent))}")
    kept = [p for p in serve if p.split("==")[0] != REPLACED]
    return sorted({*kept, *measuring, *RUNTIME[cuda], *(LIBRARIES[cuda] if libraries else ())})


def _pip(*words: str) -> None:
    """Raises `WheelsMissing` with what pip said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        telling = [s for s in done.stdout.splitlines() if s.startswith("ERROR")] or done.stdout.splitlines()[-5:]
        raise WheelsMissing("pip: " + "\n".join(telling))


def _target(python: str) -> list[str]:
    platforms = [word for p in PLATFORMS for word in ("--platform", p)]
    return ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]


def found_on_index(wanted: Sequence[str], python: str) -> list[str]:
    """File names of the wheels that pip would take; nothing is downloaded. Raises `WheelsMissing`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        _pip("install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "--target", folder,
             *_target(python), *wanted)  # fmt: skip
        return sorted(i["download_info"]["url"].rsplit("/", 1)[-1] for i in json.loads(report.read_text("utf-8"))["install"])


def download(wanted: Sequence[str], python: str, folder: Path) -> None:
    """Every wheel into the folder, and the list of them. Raises `WheelsMissing`."""
    folder.mkdir(parents=True, exist_ok=True)
    _pip("download", "--quiet", "--dest", str(folder), *_target(python), *wanted)
    (folder / PINS).write_text("\n".join(wanted) + "\n", "utf-8")


def install(folder: Path, cuda: int) -> None:
    """Into this interpreter's environment: from the folder alone if it is there, else from the index.

    Raises `WheelsMissing`.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (folder / PINS).exists():
        _pip("install", "--quiet", "--no-deps", "--no-index", "--find-links", str(folder), "-r", str(folder / PINS))
        return
    if folder.exists():
        raise WheelsMissing(f"{folder} has no {PINS}: make it with `python -m bench.gpu prepare --out {folder}`")
    try:
        _pip("install", "--quiet", "--no-deps", *pins(python, cuda))
    except WheelsMissing as error:
        raise WheelsMissing(
            f"there is no {folder}, and the index gave nothing either; where there is a network, "
            f"`python -m bench.gpu prepare --python {python} --out {folder}`, then bring the folder here\n{error}"
        ) from None
