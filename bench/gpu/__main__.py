"""`python -m bench.gpu prepare` where there is an index, then `bench/gpu/run.sh run` on the GPU machine. See docs/gpu.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.gpu import wheels

COMMANDS = ("check", "export", "sweep", "tune", "streams", "engine", "peer", "plots", "run")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="collect wheels, speech and the peer's models")
    prepare.add_argument("--out", type=Path, default=Path("wheels"))
    prepare.add_argument("--python", default="3.12", help="of the GPU machine: 3.11 or 3.12")
    prepare.add_argument("--cuda", type=int, default=12, choices=sorted(wheels.RUNTIME))
    prepare.add_argument("--no-libraries", action="store_true", help="without CUDA's own: LIBRARIES of run.sh names them")
    prepare.add_argument("--dry-run", action="store_true", help="only ask the index whether every wheel is there")
    install = commands.add_parser("install", help="into this environment; run.sh calls it")
    install.add_argument("--wheels", type=Path, default=Path("wheels"))
    install.add_argument("--cuda", type=int, default=12, choices=sorted(wheels.RUNTIME))
    for name in COMMANDS:
        part = commands.add_parser(name)
        part.add_argument("--out", type=Path, default=Path("bench/results/gpu"))
        part.add_argument("--wheels", type=Path, default=Path("wheels"), help="what prepare made, for its speech")
        part.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
        part.add_argument("--limit", type=float, default=540.0, help="seconds; what was measured by then is kept")
        part.add_argument("--quick", action="store_true", help="fewer rows, shorter ones")
        part.add_argument("--dry-run", action="store_true", help="a toy, next to no load: of the code, not of the machine")
        part.add_argument("--models", nargs="+", default=["base", "nano"], choices=("base", "nano"))
    return top


def prepare(args: argparse.Namespace) -> None:
    wanted = wheels.pins(args.python, args.cuda, libraries=not args.no_libraries)
    if args.dry_run:
        found = wheels.found_on_index(wanted, args.python)
        print("\n".join(found), f"\n{len(found)} wheels, all there")
        return
    wheels.download(wanted, args.python, args.out)
    from bench.gpu import carried

    for said in carried.collect(args.out):
        print(said)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out}: {size / 2**30:.1f} GiB; bring it and the project to the GPU machine, then bench/gpu/run.sh run")


def main(words: Sequence[str] | None = None) -> int:
    args = parser().parse_args(words)
    try:
        if args.command == "prepare":
            prepare(args)
        elif args.command == "install":
            wheels.install(args.wheels, args.cuda)
        else:
            from bench.gpu import session

            session.run(args)
    except wheels.WheelsMissing as error:
        print(error, file=sys.stderr)
        return 1
    except RuntimeError as error:  # what the other modules say is wrong with the machine: they cannot be imported here
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
