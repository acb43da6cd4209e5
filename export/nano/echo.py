"""A GPU is done with a batch before the cores have made the next one: each batch is heard several times, other batches in
between and each time differently (data echoing, Choi et al. 2019, arXiv 1907.05550)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from export.nano.data import Batch

BETWEEN = 60
"""Batches that wait to be heard again, some 25 MB each."""


def echoed(batches: Iterable[Batch], times: int, device: str, seed: int = 5) -> Iterator[Batch]:
    """Every batch as it is, on the device, and `times` - 1 times again, changed."""
    r = random.Random(seed)
    waiting: list[tuple[Batch, int]] = []
    for batch in batches:
        there = batch.to(device)
        yield there
        if times > 1:
            waiting.append((there, times - 1))
        for _ in range(times - 1 if len(waiting) >= BETWEEN else 0):
            at = r.randrange(len(waiting))
            some, left = waiting[at]
            yield again(some)
            if left > 1:
                waiting[at] = some, left - 1
            else:
                waiting.pop(at)


def again(batch: Batch) -> Batch:
    """Each utterance through another vocal tract, and with two stretches and two bands of its mels unheard."""
    mel = batch.mel
    n, bins, frames = mel.shape

    def chance(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, device=mel.device)

    bin_, frame = torch.arange(bins, device=mel.device), torch.arange(frames, device=mel.device)
    position = (bin_ / chance(0.92, 1.09)).clamp(max=bins - 1.001)
    low = position.long()
    share = (position - low)[:, :, None]
    low = low[:, :, None].expand(-1, -1, frames)
    mel = mel.gather(1, low) * (1 - share) + mel.gather(1, low + 1) * share
    fill = mel.mean((1, 2), keepdim=True)
    for _ in range(2):
        at, width = chance(0, bins - 10), chance(0, 11)
        mel = torch.where(((bin_ >= at) & (bin_ < at + width))[:, :, None], fill, mel)
        at, width = chance(0, frames - 20), chance(0, 18)
        mel = torch.where(((frame >= at) & (frame < at + width))[:, None, :], fill, mel)
    return replace(batch, mel=mel)
