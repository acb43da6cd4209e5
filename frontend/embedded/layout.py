"""Where the wheel keeps things, and the backend folder that the embedded server is started with."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class TritonStartError(Exception):
    """The embedded Triton cannot run here; the message says why and what to do."""


@dataclass(frozen=True)
class Wheel:
    """Paths inside the installed nvidia-pytriton wheel."""

    server: Path
    backend: Path
    stub: Path
    libraries: Path


def find_wheel() -> Wheel:
    """Raises `TritonStartError` when the wheel is missing or has no stub for this Python."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise TritonStartError(
            "nvidia-pytriton is not installed: pip install 'voiceforge[embedded]', or use --triton HOST:PORT"
        )
    root = Path(spec.origin).parent
    base = root / "tritonserver"
    stub = base / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.exists():
        known = ", ".join(sorted((p.name for p in stub.parent.parent.iterdir()), key=lambda v: int(v.split(".")[1])))
        raise TritonStartError(f"nvidia-pytriton has no Python backend for Python {PYTHON} (it has {known})")
    return Wheel(base / "bin" / "tritonserver", base / "backends" / "python", stub, root.parent / "nvidia_pytriton.libs")


def prepare_backends(wheel: Wheel, folder: Path) -> Path:
    """Lays out `folder/python` and `folder/onnxruntime`; returns `folder` for `--backend-directory`."""
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    for source in (*wheel.backend.iterdir(), wheel.stub):
        shutil.copy2(source, python / source.name)
    for file in ("tritonserver", python / "triton_python_backend_stub"):
        path = Path(file) if isinstance(file, Path) else wheel.server
        if not os.access(path, os.X_OK):
            path.chmod(0o755)
    shutil.copytree(Path(__file__).parent / "onnxruntime", folder / "onnxruntime", dirs_exist_ok=True)
    return folder


def environment(wheel: Wheel) -> dict[str, str]:
    """The server's environment: its libraries, this interpreter first on PATH, one thread for numeric libraries.

    The stub embeds Python in isolated mode: it ignores PYTHONPATH, looks `python3` up on PATH and takes the packages of
    the virtual environment it finds there; a PYTHONHOME would hide that environment.
    """
    libraries = [str(wheel.libraries), sysconfig.get_config_var("LIBDIR") or "", os.environ.get("LD_LIBRARY_PATH", "")]
    inherited = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PYTHONPATH"}}
    return {
        **inherited,
        "LD_LIBRARY_PATH": ":".join(p for p in libraries if p),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def free_ports(n: int) -> list[int]:
    """Ports that were free on 127.0.0.1 a moment ago."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


SHM = Path("/dev/shm")
SHM_PREFIX = "voiceforge_"


def clean_shared_memory(owner: int | None = None) -> int:
    """Removes the Python backend's regions of server `owner`, or of every server whose front end is gone."""
    removed = 0
    for path in SHM.glob(f"{SHM_PREFIX}*"):
        pid = path.name.removeprefix(SHM_PREFIX).split("_")[0]
        gone = pid.isdigit() and not Path(f"/proc/{pid}").exists()
        if (owner is None and gone) or (owner is not None and pid == str(owner)):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def models_in(repository: Path) -> list[str]:
    """Triton's names of the models that a repository holds."""
    return sorted(p.name for p in repository.iterdir() if (p / "config.pbtxt").exists()) if repository.is_dir() else []


def instances(repository: Path, model: str) -> int:
    """Processes that a model has, at the least."""
    found = re.search(r"instance_group \[ \{ count: (\d+)", (repository / model / "config.pbtxt").read_text("utf-8"))
    return int(found[1]) if found else 1


ANNOUNCEMENT = ".serving-"


def announce(repository: Path, address: str) -> Path | None:
    """Leaves word in the repository of where it is served, for the command line; None where nothing can be written."""
    path = repository / f"{ANNOUNCEMENT}{os.getpid()}-{address.rsplit(':', 1)[-1]}.json"
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps({"pid": os.getpid(), "grpc": address}), "utf-8")
        part.replace(path)
    except OSError:
        return None
    return path


def announced(repository: Path) -> list[str]:
    """gRPC addresses of the embedded servers over a repository, by what living front ends have announced."""
    found: list[str] = []
    for path in sorted(repository.glob(f"{ANNOUNCEMENT}*.json")):
        content = json.loads(path.read_text("utf-8"))
        if Path(f"/proc/{content['pid']}").exists():
            found.append(content["grpc"])
        else:
            path.unlink(missing_ok=True)
    return found
