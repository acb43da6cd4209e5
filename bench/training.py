"""How long a step of training takes on this CPU, in bf16 and in fp32: `python -m bench.training`.

`nano`'s size, 24 made-up utterances of four seconds a step, one thread. What docs/decisions.md says about CPUs without bf16
comes from here.
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer
from rich.console import Console

from bench.quality import table
from export.nano.data import CHARS, Batch, max_tokens
from export.nano.model import Dims, Whisper
from export.nano.train import computes_in_bf16, losses, optimisers_of

UTTERANCES, SECONDS, VOCABULARY, PHONES = 24, 4, 3046, 160
console = Console()


def batch() -> Batch:
    """As much as a step of the last stage hears."""
    torch.manual_seed(1)
    tokens = torch.randint(0, 1500, (UTTERANCES, max_tokens(SECONDS)))
    return Batch(
        mel=torch.randn(UTTERANCES, 80, 100 * SECONDS),
        tokens=tokens,
        targets=tokens,
        phones=torch.randint(0, PHONES, (UTTERANCES, 50 * SECONDS)),
        chars=torch.randint(1, len(CHARS), (UTTERANCES, 15 * SECONDS)),
        char_lengths=torch.full((UTTERANCES,), 15 * SECONDS),
    )


def seconds_a_step(bf16: bool, muon: bool, steps: int) -> tuple[float, float]:
    """The shortest of some steps after a first one: (losses and gradients, optimisers)."""
    heard = batch()
    model = Whisper(Dims(VOCABULARY, encoder_layers=6), PHONES, len(CHARS) + 1, 0.0)
    those = optimisers_of(model, 1e-5, muon)
    took: list[tuple[float, float]] = []
    for _ in range(1 + steps):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            parts = losses(model, heard, None)
        torch.stack(list(parts.values())).sum().backward()
        learned = time.perf_counter()
        for optimiser in those:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        took.append((learned - began, time.perf_counter() - learned))
    return min(t for t, _ in took[1:]), min(t for _, t in took[1:])


def main(steps: Annotated[int, typer.Option(help="Of each way, after one that is not counted.")] = 3) -> None:
    """Print seconds a step of each way to compute, and which one `train` takes here."""
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    for name, bf16, muon in (("bf16, Muon", True, True), ("fp32, Muon", False, True), ("fp32, AdamW alone", False, False)):
        console.log(name)
        gradients, updates = seconds_a_step(bf16, muon, steps)
        audio_s = UTTERANCES * SECONDS / (gradients + updates)
        rows.append([name, f"{gradients:.2f} s", f"{updates:.2f} s", f"{audio_s:.0f} s a second"])
    console.print(table(["step", "losses and gradients", "optimisers", "audio heard"], rows), markup=False)
    console.print(f"`train` takes {'the first' if computes_in_bf16('cpu') else 'the last'} one on this machine.")


if __name__ == "__main__":
    typer.run(main)
