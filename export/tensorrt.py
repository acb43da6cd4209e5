"""TensorRT plans for the encoder and Silero, built where TensorRT is (an NGC image with a GPU): shapes, command, config.

A plan is tied to the GPU and the TensorRT version it was built with, so it is built on the serving machine, and loads in
seconds where ONNX Runtime's own TensorRT provider rebuilds for a minute when a shape leaves its profile. Every engine
must pass the word error rate of its ONNX original before it serves: a public tiny.en plan once gave 99 %.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.mel import SAMPLE_RATE


@dataclass(frozen=True)
class Profile:
    """The shapes of one input: smallest, most usual, largest. All are explicit; nothing is left to guess."""

    name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def __post_init__(self) -> None:
        shapes = (self.minimum, self.optimum, self.maximum)
        if len({len(s) for s in shapes}) != 1 or any(not a <= b <= c for a, b, c in zip(*shapes, strict=True)):
            raise ValueError(f"profile of {self.name}: {self.minimum} ≤ {self.optimum} ≤ {self.maximum} does not hold")


@dataclass(frozen=True)
class Build:
    """One engine to build. `workspace_mib` bounds the builder's scratch memory."""

    onnx: Path
    plan: Path
    profiles: Sequence[Profile]
    fp16: bool = True
    workspace_mib: int = 4096
    timing_cache: Path | None = None
    extra: Sequence[str] = field(default_factory=tuple)

    def command(self, trtexec: str = "trtexec") -> list[str]:
        """The `trtexec` call, as of TensorRT 10."""
        shapes = [
            f"--{kind}Shapes=" + ",".join(f"{p.name}:{'x'.join(map(str, shape(p)))}" for p in self.profiles)
            for kind, shape in (
                ("min", lambda p: p.minimum),
                ("opt", lambda p: p.optimum),
                ("max", lambda p: p.maximum),
            )
        ]
        flags = ["--fp16"] if self.fp16 else []
        flags += [f"--timingCacheFile={self.timing_cache}"] if self.timing_cache else []
        return [
            trtexec, f"--onnx={self.onnx}", f"--saveEngine={self.plan}", *shapes, *flags,
            f"--memPoolSize=workspace:{self.workspace_mib}M", "--skipInference", *self.extra,
        ]  # fmt: skip

    def run(self) -> None:
        """Builds the plan. Raises `FileNotFoundError` without TensorRT, `CalledProcessError` when the build fails."""
        if shutil.which("trtexec") is None:
            raise FileNotFoundError("trtexec is not on PATH: run this inside the NGC Triton or TensorRT image")
        self.plan.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(self.command(), check=True)


def encoder_build(model: Path, windows_s: Sequence[int], max_batch: int = 16, *, fp16: bool = True) -> Build:
    """The plan of an exported `whisper_<m>_encoder` folder; windows in seconds, as its manifest lists them."""
    shortest, longest = (s * SAMPLE_RATE for s in (min(windows_s), max(windows_s)))
    usual = sorted(windows_s)[len(windows_s) // 2] * SAMPLE_RATE
    profile = Profile("audio", (1, shortest), (max(1, max_batch // 2), usual), (max_batch, longest))
    version = model / "1"
    return Build(version / "model.onnx", version / "model.plan", [profile], fp16=fp16, timing_cache=model / "timing.cache")


def plan_config(config: str) -> str:
    """`config.pbtxt` of an ONNX model, changed to serve `model.plan` by the native TensorRT backend."""
    changed = config.replace('backend: "onnxruntime"', 'backend: "tensorrt"\ndefault_model_filename: "model.plan"')
    if changed == config:
        raise ValueError("not the config of an onnxruntime model")
    return re.sub(r'parameters \{ key: "(intra|inter)_op_thread_count".*\n', "", changed)


def accelerated_config(config: str, build: Build, cache: str = "/tmp/voiceforge-trt") -> str:
    """`config.pbtxt` of an ONNX model with ONNX Runtime's TensorRT provider and the build's profiles."""

    def shapes(kind: str) -> str:
        return ",".join(f"{p.name}:{'x'.join(map(str, getattr(p, kind)))}" for p in build.profiles)

    options = {
        "precision_mode": "FP16" if build.fp16 else "FP32",
        "max_workspace_size_bytes": str(build.workspace_mib * 2**20),
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "true",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_profile_min_shapes": shapes("minimum"),
        "trt_profile_opt_shapes": shapes("optimum"),
        "trt_profile_max_shapes": shapes("maximum"),
    }
    lines = "\n".join(f'      parameters {{ key: "{k}" value: "{v}" }}' for k, v in options.items())
    accelerator = f'gpu_execution_accelerator: [ {{\n      name: "tensorrt"\n{lines}\n    }} ]'
    return f"{config}optimization {{\n  execution_accelerators {{\n    {accelerator}\n  }}\n}}\n"
