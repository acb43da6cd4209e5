"""The commands that run on the GPU machine."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import onnxruntime

from bench.gpu import checkpoint, engine, machine, peer, plots, report, speech, streams
from bench.gpu.engine import Exported
from bench.gpu.plan import DRY, FULL, QUICK, Target
from bench.gpu.results import Deadline, Results
from bench.load import Clip
from export.engine.slots import DeviceUnavailable
from export.repository import CHECKPOINTS, export_silero, export_whisper, up_to_date

FILE = "gpu.json"
PRECISIONS = ("fp16", "fp32")


class Session:
    """One command line, over one folder of results."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises `GpuUnusable` and `DeviceUnavailable` rather than measure a CPU, `SpeechMissing`, `ValueError`."""
        sizes = DRY if args.dry_run else QUICK if args.quick else FULL
        self.target = Target(args.device, sizes)
        self.deadline = Deadline(args.limit)
        self.results = Results(args.out / FILE)
        self.repository = args.out / "models"
        self.wheels, self.names = args.wheels, args.models
        facts: dict[str, object] = {
            "device": args.device, "plan": "dry" if args.dry_run else "quick" if args.quick else "full",
            "onnxruntime": onnxruntime.__version__, "cores": os.cpu_count(), "python": platform.python_version(),
        }  # fmt: skip
        if args.device == "cuda":
            gpu = machine.find_gpu()
            machine.check(gpu, machine.onnxruntime_cuda())
            facts |= {"gpu": gpu.name, "driver": gpu.driver, "memory_mib": gpu.memory_mib}
        machine.check_sessions(args.device)
        self.results.conditions(**facts)

    def clips(self) -> list[Clip]:
        return speech.clips(self.wheels, self.target.sizes.n_clips)

    def source(self, name: str) -> Path:
        """The checkpoint folder of a model, made if need be."""
        if name == "nano":
            return CHECKPOINTS
        folder = self.repository.with_name("base-checkpoint")
        if not (folder / "voiceforge.json").exists():  # the last file that is written
            checkpoint.write(folder, checkpoint.SHAPES[self.target.sizes.shape], self.target.sizes.n_tokens)
        return folder

    def models(self) -> dict[str, Exported]:
        """By their label: each model in each precision, exported if need be."""
        if not up_to_date(self.repository, "silero_vad"):
            export_silero(self.repository, instances=self.target.sizes.vad_instances)
        found: dict[str, Exported] = {}
        for name in self.names:
            for precision in PRECISIONS:
                exported = name if precision == "fp16" else f"{name}-{precision}"
                if not up_to_date(self.repository, exported, precision=precision):
                    export_whisper(
                        str(self.source(name)),
                        self.repository,
                        name=exported,
                        precision=precision,
                        tuning=self.target.tuning(),
                    )
                found[f"{name} {precision}"] = Exported(self.repository, exported, self.source(name))
        return found

    # --- the commands ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        print(", ".join(f"{k} {v}" for k, v in self.results.content["conditions"].items()))

    def export(self) -> None:
        self.models()

    def sweep(self) -> None:
        models = self.models()
        for name in self.names:
            engine.sweep(self.target, self.results, models[f"{name} fp16"], self.clips(), self.deadline)

    def tune(self) -> None:
        self.models()
        for name in self.names:
            streams.tune(self.target, self.results, self.repository, name, self.clips(), self.deadline)

    def streams(self) -> None:
        self.models()
        for name in self.names:
            judged = name == "nano"  # what base says is made up
            streams.ramp(
                self.target, self.results, self.repository, name, self.clips(), self.deadline, judged_by_text=judged
            )

    def engine(self) -> None:
        engine.measure(self.target, self.results, self.models(), self.clips(), self.deadline)

    def peer(self) -> None:
        peer.measure(self.target, self.results, self.wheels, self.names, self.clips(), self.deadline)

    def plots(self) -> None:
        print("\n".join(report.lines(self.results)))
        for path in plots.draw(self.results):
            print(path)


def run(args: argparse.Namespace) -> None:
    """One command, or all of them. Raises `RuntimeError` for what is wrong with the machine or what was brought to it."""
    from bench.gpu.__main__ import ALL

    try:
        session = Session(args)
        for command in ALL if args.command == "run" else (args.command,):
            print(f"{command}, {session.deadline.left_s:.0f} s left", flush=True)
            getattr(session, command)()
    except (machine.GpuUnusable, DeviceUnavailable, speech.SpeechMissing, ValueError) as error:
        raise RuntimeError(str(error)) from error
