"""What the servers need on disk, in a cache folder: virtual environments of their own, the checkpoint converted for them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.parity import converted
from export.repository import NANO, export_silero, export_whisper

TORCH = "2.13.0"
"""The CPU build where an index has it: a plain `torch` brings gigabytes of CUDA packages on Linux."""
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Environment:
    """`package` goes in without its own dependencies; `needs` are those that its server imports."""

    package: str
    needs: tuple[str, ...]
    imports: str
    """A module that must be importable in the end."""

    def python(self, cache: Path) -> Path:
        """Its interpreter; the environment is made on first use."""
        key = hashlib.sha256(repr((self, TORCH, sys.version_info[:2])).encode()).hexdigest()[:8]
        folder = cache / f"{self.package.replace('==', '-')}-{key}"
        python, done = folder / "bin" / "python", folder / ".complete"
        if not done.exists():
            print(f"setting up {self.package} in {folder}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            cpu = [*pip, "--no-deps", "--retries", "0", "--extra-index-url", TORCH_INDEX, f"torch=={TORCH}+cpu"]
            subprocess.run(cpu, check=False)  # where it is not to be had, the next line takes what there is
            subprocess.run([*pip, f"torch=={TORCH}", *self.needs], check=True)
            subprocess.run([*pip, "--no-deps", self.package], check=True)
            subprocess.run([python, "-c", f"import {self.imports}"], check=True)
            done.touch()
        return python


WHISPER_LIVE = Environment(
    "whisper-live==0.10.0",
    (
        "fastapi==0.165.0",
        "faster-whisper==1.2.0",
        "numpy==2.4.6",
        "onnxruntime==1.32.0",
        "tokenizers==0.20.3",
        "uvicorn==0.54.0",
        "websockets==17.4",
    ),
    "whisper_live.backend.faster_whisper_backend",
)
"""Left out of its dependencies: PyAudio (the microphone of its client; builds from source), CUDA libraries, OpenVINO,
optimum, openai-whisper and others that the faster-whisper server does not import."""

WHISPER_LIVE_KIT = Environment(
    "whisperlivekit==0.2.26",
    (
        "fastapi==0.165.0",
        "faster-whisper==1.2.1",
        "librosa==0.11.0",
        "numpy==2.4.6",
        "onnxruntime==1.32.0",
        "python-multipart==0.0.34",
        "soundfile==0.14.0",
        "tiktoken==0.14.0",
        "uvicorn==0.54.0",
        "websockets==17.4",
    ),
    "whisperlivekit.local_agreement.whisper_online",
)
"""Left out of its dependencies: torchaudio, which it does not import and of which there is none for this torch."""


def ctranslate2_model(cache: Path) -> Path:
    """`nano` as CTranslate2 has it. Made again when the checkpoint changes."""
    folder = cache / f"nano-{_key()}"
    if not (folder / "ct2" / "model.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        converted(NANO, folder)
    return folder / "ct2"


def model_repository(cache: Path) -> Path:
    """`nano` and the VAD as `voiceforge serve` has them on a CPU."""
    folder = cache / f"repository-{_key()}"
    if not (folder / ".complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        export_silero(folder)
        export_whisper(str(NANO), folder, name="nano", precision="int8")
        (folder / ".complete").touch()
    return folder


def _key() -> str:
    return hashlib.sha256((NANO / "model.safetensors").read_bytes()).hexdigest()[:8]
