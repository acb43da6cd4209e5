"""The GPU: what it is, whether onnxruntime really runs on it, how busy it is."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

QUERY = "utilization.gpu,memory.used,power.draw"
LEAST_FREE_MIB = 6000
"""Base in fp16 with 64 rows takes about 2.5 GB an instance."""


class GpuUnusable(Exception):
    """There is no GPU that this can be measured on; the message says why and what to do."""


@dataclass(frozen=True)
class Gpu:
    """As nvidia-smi has it."""

    name: str
    driver: str
    cuda: str
    """The newest CUDA that the driver runs."""
    memory_mib: int
    free_mib: int


def parse_gpu(listed: str, header: str) -> Gpu:
    """Of `nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free` and of plain `nvidia-smi`.

    Raises `GpuUnusable`.
    """
    lines = [line for line in listed.splitlines() if line.count(",") == 3]
    if not lines:
        raise GpuUnusable(f"nvidia-smi lists no GPU: {listed.strip() or header.strip() or 'it printed nothing'}")
    name, driver, total, free = (part.strip() for part in lines[0].split(","))
    cuda = re.search(r"CUDA Version:\s*(\d+\.\d+)", header)
    if cuda is None:
        raise GpuUnusable("nvidia-smi names no CUDA version: is the driver loaded?")
    try:
        return Gpu(name, driver, cuda[1], int(total), int(free))
    except ValueError:
        told = f"{total}, {free}"
        raise GpuUnusable(f"nvidia-smi cannot tell the memory of {name} ({told}); MIG slices are not supported") from None


def find_gpu() -> Gpu:
    """The first one. Raises `GpuUnusable`."""
    if shutil.which("nvidia-smi") is None:
        raise GpuUnusable("there is no nvidia-smi: no NVIDIA driver here, or a container without --gpus all")

    def smi(*words: str) -> str:
        done = subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise GpuUnusable(f"nvidia-smi fails: {(done.stdout + done.stderr).strip()}")
        return done.stdout

    listed = smi("--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits")
    return parse_gpu(listed, smi())


def check(gpu: Gpu, needs_cuda: str) -> None:
    """Raises `GpuUnusable` for a driver or a memory that will not do. `needs_cuda`: onnxruntime-gpu was built with it."""
    if int(gpu.cuda.split(".")[0]) < int(needs_cuda.split(".")[0]):
        raise GpuUnusable(
            f"driver {gpu.driver} runs CUDA {gpu.cuda}, the installed onnxruntime-gpu was built for {needs_cuda}: prepare "
            f"with --cuda {gpu.cuda.split('.')[0]}, or update the driver"
        )
    if gpu.free_mib < LEAST_FREE_MIB:
        raise GpuUnusable(f"{gpu.free_mib} MiB of {gpu.name} are free; this wants {LEAST_FREE_MIB}: who holds the rest?")


def onnxruntime_cuda() -> str:
    """The CUDA version that the installed onnxruntime was built with. Raises `GpuUnusable` for a CPU build."""
    try:
        from onnxruntime.capi.build_and_package_info import cuda_version  # type: ignore[attr-defined]
    except ImportError:
        raise GpuUnusable("the installed onnxruntime is the CPU's: install by bench/gpu/run.sh") from None
    return cuda_version


def check_sessions(device: str) -> None:
    """Runs a small encoder-like graph there. Raises `DeviceUnavailable` when onnxruntime would fall back to the CPU."""
    import numpy as np

    from export.engine.batch import run
    from export.engine.slots import Place, open_session
    from export.graph import Graph

    g = Graph("check", np.float16)
    x = g.input("x", ["rows", 8])
    g.output(g.op("Softmax", g.op("MatMul", x, g.weight("w", np.eye(8))), axis=-1), "y", ["rows", 8])
    with tempfile.TemporaryDirectory() as folder:
        g.save(Path(folder) / "check.onnx")
        session = open_session(Path(folder) / "check.onnx", Place(device))
        (found,) = run(session, ["y"], {"x": np.zeros((3, 8), np.float16)})
    if not np.allclose(found, 1 / 8, atol=1e-3):
        raise GpuUnusable(f"a softmax of zeros on {device} is {found[0]}: this device computes nonsense")


def placement(graph: Path, device: str) -> dict[str, dict[str, int]]:
    """Operators of a graph by the provider that runs them: what CUDA has no kernel for runs on the CPU, copies included."""
    from export.engine.slots import Place, open_session

    session = open_session(graph, Place(device), entries={"session.record_ep_graph_assignment_info": "1"})
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return {provider: dict(operators.most_common()) for provider, operators in found.items()}


def parse_sample(line: str) -> tuple[float, float, float] | None:
    """Utilisation in percent, memory in MiB, power in W; None for a line that has none of it, 0 for what is not told."""
    parts = [p.strip() for p in line.split(",")]
    if len(parts) != 3 or not parts[0].isdigit():
        return None
    numbers = [float(p) if re.fullmatch(r"[\d.]+", p) else 0.0 for p in parts]
    return numbers[0], numbers[1], numbers[2]


class Sampler:
    """Samples nvidia-smi every 200 ms while it is entered; without a GPU it tells nothing."""

    def __init__(self, device: str) -> None:
        self._samples: list[tuple[float, float, float]] = []
        self._wanted = device == "cuda"

    def __enter__(self) -> Sampler:
        self._process: subprocess.Popen[str] | None = None
        if self._wanted:
            command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", "-lms", "200"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            if sample := parse_sample(line):
                self._samples.append(sample)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout
            self._process.stdout.close()

    def summary(self) -> dict[str, float] | None:
        """Means, and the most memory; None when nothing was sampled."""
        if not self._samples:
            return None
        busy, memory, power = zip(*self._samples, strict=True)
        return {
            "gpu_percent": round(statistics.fmean(busy), 1),
            "gpu_memory_mib": max(memory),
            "gpu_watts": round(statistics.fmean(power), 1),
        }
