"""What keeps VoiceForge from running on a machine, and the mend for each."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from frontend.embedded.layout import PYTHON, TritonStartError, environment, find_wheel
from frontend.settings import Settings

SHM_NEEDED_MIB = 256
"""Six Python stubs at 1 MiB to start with, and room to grow under load; Docker's default of 64 MiB is too small."""


@dataclass(frozen=True)
class Finding:
    """One check. `mend` says what to do when it is not ok."""

    name: str
    ok: bool
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def run(settings: Settings) -> list[Finding]:
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python,
        _numpy,
        _triton,
        _shared_memory,
        _port,
        _gpu,
    )
    return [finding for check in checks for finding in check(settings)]


def _python(_: Settings) -> Iterator[Finding]:
    yield Finding("Python", (3, 11) <= sys.version_info < (3, 13), sys.version.split()[0], "use Python 3.11 or 3.12")


def _numpy(_: Settings) -> Iterator[Finding]:
    found = version("numpy")
    mend = "pip install 'numpy<2': Triton 24.10's Python stub reads numpy 2 arrays as zeros, without an error"
    yield Finding("numpy", int(found.split(".")[0]) < 2, found, mend)


def _triton(settings: Settings) -> Iterator[Finding]:
    if settings.triton:
        host, _, port = settings.triton.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=3).close()
            yield Finding("Triton", True, f"{settings.triton} accepts connections")
        except (OSError, ValueError) as error:
            yield Finding(
                "Triton",
                False,
                f"{settings.triton}: {error}",
                "start it, or correct --triton HOST:PORT (gRPC, usually 8001)",
            )
        return
    try:
        wheel = find_wheel()
    except TritonStartError as error:
        yield Finding(
            "embedded Triton",
            False,
            str(error),
            "pip install 'voiceforge[embedded]' under Python 3.11 or 3.12 on x86-64 Linux",
        )
        return
    yield Finding("embedded Triton", True, f"tritonserver of nvidia-pytriton {version('nvidia-pytriton')}")
    name = sysconfig.get_config_var("INSTSONAME") or f"libpython{PYTHON}.so.1.0"
    places = [*environment(wheel)["LD_LIBRARY_PATH"].split(":"), ""]
    ok = any(Path(p, name).exists() for p in places if p) or _loads(name)
    yield Finding(
        "libpython",
        ok,
        name if ok else f"{name} not found",
        f"apt install libpython{PYTHON}, or a Python built with --enable-shared",
    )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _shared_memory(_: Settings) -> Iterator[Finding]:
    if not os.access("/dev/shm", os.W_OK):
        yield Finding("/dev/shm", False, "not writable", "mount a tmpfs there: Triton's Python backend needs shared memory")
        return
    free = shutil.disk_usage("/dev/shm").free // 2**20
    yield Finding(
        "/dev/shm",
        free >= SHM_NEEDED_MIB,
        f"{free} MiB free",
        f"give it {SHM_NEEDED_MIB} MiB or more (docker: --shm-size=1g)",
    )


def _port(settings: Settings) -> Iterator[Finding]:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((settings.host, settings.port))
            yield Finding("port", True, f"{settings.host}:{settings.port} is free")
        except OSError as error:
            yield Finding(
                "port",
                False,
                f"{settings.host}:{settings.port}: {error.strerror}",
                "choose another: voiceforge serve --port N",
            )


def _gpu(_: Settings) -> Iterator[Finding]:
    """A GPU beside a CPU-only onnxruntime, or the CUDA build without a driver, are the usual mismatches."""
    driver = Path("/proc/driver/nvidia/version").exists()
    try:
        gpu_build = version("onnxruntime-gpu")
    except PackageNotFoundError:
        gpu_build = None
    if gpu_build and not driver:
        yield Finding(
            "GPU",
            False,
            f"onnxruntime-gpu {gpu_build}, but no NVIDIA driver",
            "pip uninstall onnxruntime-gpu; pip install onnxruntime",
        )
    elif driver and not gpu_build:
        yield Finding(
            "GPU", True, "NVIDIA driver found; the embedded Triton serves on the CPU, docker-compose.yml on the GPU"
        )
    else:
        yield Finding("GPU", True, f"onnxruntime-gpu {gpu_build} with a driver" if driver else "none; serving on the CPU")
