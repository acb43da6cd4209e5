"""The commands that run on the GPU machine."""

from __future__ import annotations

import argparse
import os
import platform
from functools import cached_property
from pathlib import Path

import onnxruntime

from bench.gpu import checkpoint, engine, machine, peer, plots, report, speech, streams
from bench.gpu.engine import Exported
from bench.gpu.plan import DRY, FULL, QUICK, Target
from bench.gpu.results import Deadline, Results
from bench.load import Clip
from export.engine.slots import DeviceUnavailable
from export.repository import NANO, export_silero, export_whisper, up_to_date

FILE = "gpu.json"
PARTS = ("export", "sweep", "tune", "streams", "engine", "peer")
"""In the order in which a run that is cut short has learned the most."""
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
        self.wheels = args.wheels
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

    @cached_property
    def clips(self) -> list[Clip]:
        return speech.clips(self.wheels, self.target.sizes.n_clips)

    def source(self, name: str) -> Path:
        """The checkpoint folder of a model, made if need be."""
        if name == "nano":
            return NANO
        folder = self.repository.with_name("base-checkpoint")
        if not (folder / "voiceforge.json").exists():  # the last file that is written
            checkpoint.write(folder, checkpoint.SHAPES[self.target.sizes.shape], self.target.sizes.n_tokens)
        return folder

    def exported(self, name: str, precision: str) -> Exported:
        """A model, exported if need be. Just `nano` would be exported anew, for a CPU, when it is served."""
        if not up_to_date(self.repository, "silero_vad"):
            export_silero(self.repository, instances=self.target.sizes.vad_instances)
        full, source = f"{name}-{precision}", self.source(name)
        if not up_to_date(self.repository, full, precision=precision):
            tuning = self.target.tuning()
            export_whisper(str(source), self.repository, name=full, precision=precision, tuning=tuning)
        return Exported(self.repository, full, source)

    # --- the commands, each for one model -------------------------------------------------------------------------

    def export(self, name: str) -> None:
        for precision in PRECISIONS:
            self.exported(name, precision)

    def sweep(self, name: str) -> None:
        engine.sweep(self.target, self.results, self.exported(name, "fp16"), self.clips, self.deadline)

    def tune(self, name: str) -> None:
        streams.tune(self.target, self.results, self.exported(name, "fp16"), self.clips, self.deadline)

    def streams(self, name: str) -> None:
        model = self.exported(name, "fp16")
        judged = name == "nano"  # what base says is made up
        streams.ramp(self.target, self.results, model, self.clips, self.deadline, judged_by_text=judged)

    def engine(self, name: str) -> None:
        models = [self.exported(name, precision) for precision in PRECISIONS]
        engine.measure(self.target, self.results, models, self.clips, self.deadline)

    def peer(self, name: str) -> None:
        peer.measure(self.target, self.results, self.wheels, name, self.clips, self.deadline)

    # --- of all ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        print(", ".join(f"{k} {v}" for k, v in self.results.content["conditions"].items()))

    def plots(self) -> None:
        print("\n".join(report.lines(self.results)))
        for path in plots.draw(self.results):
            print(path)


def _work(session: Session, args: argparse.Namespace) -> None:
    if args.command == "check":
        session.check()
        return
    parts = [p for p in PARTS if args.command in (p, "run")]
    for name in args.models if parts else ():
        for part in parts:
            print(f"{name}: {part}, {session.deadline.left_s:.0f} s left", flush=True)
            getattr(session, part)(name)
    session.plots()


def run(args: argparse.Namespace) -> None:
    """One command, or all of them. Raises `RuntimeError` for what is wrong with the machine or what was brought to it."""
    try:
        _work(Session(args), args)
    except (machine.GpuUnusable, DeviceUnavailable, speech.SpeechMissing, ValueError) as error:
        raise RuntimeError(str(error)) from error
