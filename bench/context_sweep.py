"""Which windows a checkpoint tolerates: word error rate and cost over paddings, and the setting that follows.

`python -m bench.context_sweep CHECKPOINT [--test FOLDER | --recorded FOLDER] [--utterances N] [--write]`

A window policy is what the engine knows: lengths that audio is padded to (`windows_s`), and how much silence must follow
the speech (`padding_s`). Swept are fixed lengths of 5, 10, 15 and 30 s (longer speech gets 30 s), a grid of lengths with
0 to 3 s of silence, and what the checkpoint declares. The cheapest whose error rate is within `--tolerance` points of the
whole window's is recommended. `--write` puts it into `voiceforge.json` beside the checkpoint, not beside the exported
model: the exporter reads it there, so that it holds for every precision and every later export.

Cost is CPU time of encoder and decoder on one thread. `--recorded` is a folder with `transcripts.tsv` (file TAB text).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.checkpoint import POLICY, Checkpoint, open_checkpoint
from export.engine.windows import window_length
from export.nano import corpus
from export.nano.evaluate import Recogniser, word_errors
from export.repository import IN_THE_BOX, model_name, window_lengths

RATE = 16_000
Pcm = npt.NDArray[np.int16]
FIXED_S = (5, 10, 15)
GRID_S = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)
"""Steps of a fifth or so: little padding is encoded for nothing, and windows of streams still meet in batches."""
PADDINGS_S = (0, 0.2, 0.5, 1, 2, 3)
TOLERANCE = 0.2
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Policy:
    name: str
    windows_s: tuple[float, ...]
    padding_s: float = 0.0

    def window(self, n_samples: int) -> int:
        return window_length(n_samples, [round(s * RATE) for s in self.windows_s], round(self.padding_s * RATE))


@dataclass(frozen=True)
class Measured:
    """WER in percent; `cpu_s` an utterance; `window_s` on average."""

    policy: Policy
    wer: float
    cpu_s: float
    window_s: float


def policies(checkpoint: Checkpoint) -> list[Policy]:
    """The whole window first: the one that the others are judged by."""
    whole = float(checkpoint.window_s)
    grid = (*(float(s) for s in GRID_S if s < whole), whole)
    out = [Policy(f"{whole:g} s", (whole,))]
    out += [Policy(f"{s} s", (float(s), whole)) for s in FIXED_S if s < whole]
    out += [Policy(f"audio + {p} s", grid, float(p)) for p in PADDINGS_S]
    declared = Policy("declared", tuple(window_lengths(checkpoint)), checkpoint.padding_s)
    return out if declared.windows_s == (whole,) else [*out, declared]


def decoded(
    recogniser: Recogniser, clips: Sequence[Pcm], wanted: Sequence[Policy]
) -> tuple[dict[tuple[int, int], str], dict[int, float]]:
    """The text of each (clip, window) that a policy asks for, and the mean CPU seconds of a clip in each window."""
    pairs = sorted({(p.window(len(clip)), i) for p in wanted for i, clip in enumerate(clips)})
    texts: dict[tuple[int, int], str] = {}
    cost: dict[int, float] = {}
    for window in sorted({w for w, _ in pairs}):
        members = [i for w, i in pairs if w == window]
        began = time.process_time()
        found = recogniser.transcribe([clips[i] for i in members], window_s=window / RATE)
        cost[window] = (time.process_time() - began) / len(members)
        texts |= {(i, window): h.text for i, h in zip(members, found, strict=True)}
    return texts, cost


def sweep(checkpoint: Checkpoint, clips: Sequence[Pcm], references: Sequence[str]) -> list[Measured]:
    recogniser = Recogniser(checkpoint.folder, threads=1)
    wanted = policies(checkpoint)
    try:
        recogniser.transcribe(clips[:1])  # onnxruntime's first run is slow
        texts, cost = decoded(recogniser, clips, wanted)
    finally:
        recogniser.close()
    out: list[Measured] = []
    for policy in wanted:
        windows = [policy.window(len(clip)) for clip in clips]
        wer = word_errors(references, [texts[i, w] for i, w in enumerate(windows)]).wer
        cpu, length = np.mean([cost[w] for w in windows]), np.mean(windows) / RATE
        out.append(Measured(policy, round(wer, 2), round(float(cpu), 4), round(float(length), 2)))
    return out


def recommended(found: Sequence[Measured], tolerance: float = TOLERANCE) -> Measured:
    """The cheapest that is as good as the whole window, which comes first."""
    return min((m for m in found if m.wer <= found[0].wer + tolerance), key=lambda m: m.cpu_s)


def write(checkpoint: Checkpoint, best: Measured, found: Sequence[Measured], about: str) -> Path:
    """Into the checkpoint's own file, whose other settings stay."""
    path = checkpoint.folder / POLICY
    wer = {m.policy.name: m.wer for m in found}
    setting = {"windows_s": best.policy.windows_s, "padding_s": best.policy.padding_s}
    path.write_text(
        json.dumps(checkpoint.policy | setting | {"window_sweep": {"set": about, "wer": wer}}, indent=1) + "\n", "utf-8"
    )
    return path


def plot(found: Sequence[Measured], best: Measured, title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    kinds = {"fixed length": lambda n: n[0].isdigit(), "audio and silence": lambda n: n.startswith("audio")}
    for label, of_kind in kinds.items():
        rows = sorted((m for m in found if of_kind(m.policy.name)), key=lambda m: m.window_s)
        axes.plot([m.cpu_s * 1000 for m in rows], [m.wer for m in rows], "o-", label=label)
    for m in found:
        if m.policy.name == "declared":
            axes.plot([m.cpu_s * 1000], [m.wer], "s", label="declared")
        else:
            label = m.policy.name.replace("audio ", "")
            axes.annotate(label, (m.cpu_s * 1000, m.wer), textcoords="offset points", xytext=(4, 6), fontsize=8)
    axes.plot([best.cpu_s * 1000], [best.wer], "o", ms=16, mfc="none", color="black", label="recommended")
    axes.set(xscale="log", xlabel="CPU ms an utterance, one thread", ylabel="word error rate, %", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _test_set(args: argparse.Namespace) -> tuple[list[Pcm], list[str]]:
    if args.recorded:
        spoken = list(corpus.recorded(args.recorded, args.recorded / "transcripts.tsv"))[: args.utterances]
        return [u.audio for u in spoken], [u.text for u in spoken]
    with tempfile.TemporaryDirectory() as made:
        folder = args.test or Path(made)
        if args.test is None:
            corpus.synthesise_test(folder, args.utterances)
        items = corpus.read_shard(folder / "seen.jsonl")[: args.utterances]
        return [i.audio() for i in items], [i.text for i in items]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a folder, a Hugging Face repo, or nano")
    parser.add_argument("--test", type=Path, help="folder made by export.nano.corpus.synthesise_test")
    parser.add_argument("--recorded", type=Path, help="folder of recordings with transcripts.tsv")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="points of WER")
    parser.add_argument("--write", action="store_true", help="into voiceforge.json beside the checkpoint")
    args = parser.parse_args()
    checkpoint = open_checkpoint(str(IN_THE_BOX.get(args.checkpoint, args.checkpoint)))
    clips, references = _test_set(args)
    about = f"{len(clips)} utterances, {sum(map(len, clips)) / RATE:.0f} s, {args.recorded or 'synthesised'}"
    found = sweep(checkpoint, clips, references)
    best = recommended(found, args.tolerance)
    name = args.checkpoint if args.checkpoint in IN_THE_BOX else model_name(checkpoint.source)
    print(f"{name}: {about}")
    for m in found:
        mark = "  <- recommended" if m is best else ""
        print(f"{m.policy.name:14} WER {m.wer:6.2f} %  CPU {1000 * m.cpu_s:7.1f} ms  window {m.window_s:5.1f} s{mark}")
    results = ROOT / "bench" / "results" / f"context_sweep-{name}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    content = {"set": about, "recommended": best.policy.name, "rows": [asdict(m) for m in found]}
    results.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    plot(found, best, f"{name}: {about}", ROOT / "docs" / "quality" / f"context_sweep-{name}.png")
    if args.write:
        print(f"written to {write(checkpoint, best, found, about)}; export the checkpoint again")


if __name__ == "__main__":
    main()
