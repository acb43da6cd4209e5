"""Trains `nano` from scratch: joint attention, character CTC and phone-per-frame loss, on a CPU or a GPU.

The schedule follows what broke the plateau in trials: few clean voices and short utterances first, encoder attention
limited to ±16 frames and then widened, phone labels per frame weighed high at first. The learning rate warms up, stays,
and decays over the last `decay` share of the steps, so a run can be prolonged from a checkpoint by asking for more steps.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from export.nano import corpus, show_log
from export.nano import tokenizer as bpe
from export.nano.curriculum import MULTILINGUAL, STAGES, Curriculum
from export.nano.data import CHARS, IGNORE, Batch, Batches, phone_table, recorded_items
from export.nano.echo import echoed
from export.nano.model import Dims, Whisper

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The numbers of a run: warm-up from `begin`, decay until `steps`. A run goes on from where another one ended."""

    begin: int = 0
    """A run that is resumed keeps its own; one made of a packed checkpoint has that one's last step."""
    steps: int = 6_700
    minutes: float = 0.0
    """Where it is given, the run lasts so long instead, counted from its first batch."""
    batch: int = 1
    """Times the curriculum's `batch_s`: a GPU hears ten times as much in a step and is still done sooner."""
    times: int = 1
    """How often each batch is heard; see `echo.py`."""
    warmup: int = 300
    decay: float = 0.35
    peak: float = 1.4e-3
    vocab: int = 1536
    dropout: float = 0.0  # hours on two cores underfit: regularisation only slows them
    seed: int = 1
    threads: int = 2
    workers: int = 1
    save_every: int = 100
    keep_every: int = 1000
    """Steps whose weights are kept as `step-N.pt`."""
    log_every: int = 50

    def done(self, step: int, seconds: float) -> float:
        """The share of the run that is over, 1 at its end: of the minutes where they count, of the steps otherwise."""
        return seconds / (60 * self.minutes) if self.minutes else (step - self.begin) / max(1, self.steps - self.begin)

    def rate(self, step: int, done: float) -> float:
        if step < self.begin + self.warmup:
            return self.peak * (step - self.begin + 1) / self.warmup
        if done < 1 - self.decay:
            return self.peak
        return self.peak * max(0.02, (1 - done) / max(self.decay, 1e-6))


def losses(model: Whisper, batch: Batch, span: int | None, teacher: Whisper | None = None) -> dict[str, torch.Tensor]:
    """Each loss as a mean: attention (nats a token, label smoothing 0.1), CTC (nats a character), phones (nats a frame), and
    the Kullback-Leibler divergence from what a teacher would say (nats a token)."""
    hidden = model.encoder(batch.mel, span)
    logits = model.decoder(batch.tokens, hidden).float()
    attention = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, label_smoothing=0.1)
    assert model.phone_head is not None
    assert model.char_head is not None
    named = model.phone_head(hidden).float().flatten(0, 1)
    phones = F.cross_entropy(named, batch.phones.flatten(), ignore_index=IGNORE, reduction="sum")
    n_named = (batch.phones != IGNORE).sum().clamp(min=1)  # not all voices tell their phones
    chars = model.char_head(hidden).float().log_softmax(-1).transpose(0, 1)
    frames = torch.full((chars.shape[1],), chars.shape[0])
    ctc = F.ctc_loss(chars, batch.chars, frames, batch.char_lengths, reduction="sum", zero_infinity=True)
    parts = {"att": attention, "ctc": ctc / batch.char_lengths.sum().clamp(min=1), "phone": phones / n_named}
    if teacher:
        with torch.no_grad():
            said = teacher.decoder(batch.tokens, teacher.encoder(batch.mel, span)).float().log_softmax(-1)
        asked = batch.targets != IGNORE
        parts["teacher"] = F.kl_div(logits.log_softmax(-1)[asked], said[asked], reduction="batchmean", log_target=True)
    return parts


def computes_in_bf16(device: str) -> bool:
    """Whether it has instructions for it: a CPU without them (AVX2 alone) is ten times as slow in bf16 as in fp32."""
    return device != "cpu" or (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def optimisers_of(model: Whisper, rate: float, bf16: bool) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for the rest.

    The losses fall faster than with AdamW alone, by more than the fifth that a step takes longer (docs/decisions.md). But
    torch's Muon computes in bf16 whatever it is given: without `bf16`, AdamW has the matrices too.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    inner = {n: p for n, p in trained.items() if bf16 and p.dim() == 2 and ".layers." in n}
    rest = [p for n, p in trained.items() if n not in inner]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": 0.01},
            {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
        fused=True,  # a quarter of a step's time on a CPU is the optimiser otherwise
    )
    if not inner:
        return [adamw]
    muon = torch.optim.Muon([*inner.values()], lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw]


class Partner:
    """Another run of the same model with another seed, on another core: at every save the weights meet in the middle.

    Each takes what the other last saved, whenever that was; nobody waits. The slower one takes over the faster one's step.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._met = folder / "last.pt", 0.0

    def meet(self, model: Whisper, step: int, device: str) -> int:
        """Averages the weights in place; returns the step to go on from."""
        saved_at = self._path.stat().st_mtime if self._path.exists() else 0.0
        if saved_at <= self._met:
            return step
        self._met = saved_at
        saved = torch.load(self._path, map_location=device, weights_only=True)
        mine = model.state_dict()
        model.load_state_dict({n: (w + saved["model"][n]) / 2 if w.is_floating_point() else w for n, w in mine.items()})
        return max(step, saved["step"])


def train(
    data: Path,
    out: Path,
    plan: Plan,
    recorded: list[Path],
    device: str = "auto",
    partner: Path | None = None,
    stages: list[tuple[int, Curriculum]] | None = None,
    teacher: Whisper | None = None,
) -> None:
    """Runs until `plan.steps`, or as many minutes as the plan says; resumes from `out/last.pt`.

    Writes `out/log.jsonl` and a checkpoint every `save_every`. `partner` is the `out` of a run that goes on at the same
    time; see `Partner`. `stages` are by default those of the tokenizer's languages; a `teacher` has the same tokenizer.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    real = recorded_items(data, recorded)
    vocabulary = out / "vocabulary.json"
    if not vocabulary.exists():
        items = corpus.read(data)
        tokens = bpe.train((i.text for i in items + real), plan.vocab)
        bpe.save(tokens, out / "tokenizer")
        vocabulary.write_text(json.dumps({"phones": phone_table(items)}))
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    phones = json.loads(vocabulary.read_text())["phones"]
    last = out / "last.pt"
    saved = torch.load(last, map_location=device, weights_only=True) if last.exists() else None
    dims = Dims.of(saved["model"]) if saved else Dims(tokens.get_vocab_size())
    model = Whisper(dims, len(phones), len(CHARS) + 1, plan.dropout).to(device)
    bf16 = computes_in_bf16(device)
    optimisers = optimisers_of(model, plan.peak, bf16)
    step = 0
    if saved:
        plan = replace(plan, begin=saved.get("begin", plan.begin))
        model.load_state_dict(saved["model"])
        step = saved["step"]
        states = saved.get("optimisers", [])  # none in one just made deeper
        if len(states) == len(optimisers):  # else it was begun where bf16 is not as here
            for optimiser, state in zip(optimisers, states, strict=True):
                optimiser.load_state_dict(state)
        log.info("resumed at step %d", step)
    log.info(
        "%d parameters on %s in %s, vocabulary %d",
        sum(p.numel() for p in model.parameters()), device, "bf16" if bf16 else "fp32", model.dims.vocab_size,
    )  # fmt: skip
    english = len(bpe.languages_of(tokens)) == 1
    stages = stages or (STAGES if english else MULTILINGUAL)
    spawn = multiprocessing.get_context("spawn")  # threads of this process may hold locks that a fork would keep for ever
    enough = spawn.Event()
    loader = DataLoader(
        Batches(data, tokens, phones, real, plan.seed, [(at, c.of(plan.batch)) for at, c in stages], step, enough),
        batch_size=None,
        num_workers=plan.workers,
        prefetch_factor=6,
        pin_memory=device == "cuda",
        multiprocessing_context=spawn,
    )
    batches = iter(loader)
    model.train()
    meeting = Partner(partner) if partner else None
    sums: dict[str, Tensor] = {}
    seconds, began, first = 0.0, time.monotonic(), None
    for batch in echoed(batches, plan.times, device):
        first = first or time.monotonic()
        done = plan.done(step, time.monotonic() - first)
        if done >= 1:
            break
        stage = [c for at, c in stages if at <= step][-1]
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = plan.rate(step, done)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            parts = losses(model, batch, stage.span, teacher)
        phone_weight = 1.0 if step < 3000 and english else 0.3
        loss = parts["att"] + 0.5 * parts["ctc"] + phone_weight * parts["phone"] + parts.get("teacher", 0.0)
        if not torch.isfinite(loss):
            log.warning("step %d: loss is %s, skipped", step, loss.item())
            model.zero_grad(set_to_none=True)
            continue
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        step += 1
        seconds += batch.mel.shape[0] * batch.mel.shape[2] / 100
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.detach()
        if step % plan.log_every == 0:
            pace = seconds / (time.monotonic() - began)
            row = {
                "step": step,
                **{k: round(v.item() / plan.log_every, 4) for k, v in sums.items()},
                "audio_s_per_s": round(pace, 1),
                "lr": plan.rate(step, done),
            }
            log.info("%s", row)
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            sums, seconds, began = {}, 0.0, time.monotonic()
        over = plan.done(step, time.monotonic() - first) >= 1
        if step % plan.save_every == 0 or over:
            if meeting:
                step = meeting.meet(model, step, device)
            part = out / "last.part"
            states = [o.state_dict() for o in optimisers]
            torch.save({"model": model.state_dict(), "optimisers": states, "step": step, "begin": plan.begin}, part)
            os.replace(part, last)
            if step % plan.keep_every == 0 or over:
                torch.save({"model": model.state_dict(), "step": step}, out / f"step-{step}.pt")
    enough.set()
    for _ in batches:  # what was under way
        pass


def _logged(*args: Any) -> None:
    """`train` in a process that was just spawned."""
    show_log()
    train(*args)


def train_pair(
    data: Path,
    out: Path,
    plan: Plan,
    recorded: list[Path],
    device: str = "auto",
    stages: list[tuple[int, Curriculum]] | None = None,
) -> None:
    """Two runs with a thread each, `out` and beside it `out`-2; see `Partner`. The second begins where the first one is."""
    other = out.with_name(f"{out.name}-2")
    if not (out / "last.pt").exists():  # weights that begin at random cannot meet
        train(data, out, replace(plan, steps=min(plan.save_every, plan.steps)), recorded, device, None, stages)
    if not other.exists():
        other.mkdir()
        shutil.copytree(out / "tokenizer", other / "tokenizer")
        for name in ("vocabulary.json", "last.pt"):
            shutil.copyfile(out / name, other / name)
    spawn = multiprocessing.get_context("spawn")
    runs = [
        spawn.Process(
            target=_logged, args=(data, mine, replace(plan, threads=1, seed=seed), recorded, device, theirs, stages)
        )
        for mine, theirs, seed in ((out, other, plan.seed), (other, out, plan.seed + 1))
    ]
    told = signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM; what was saved is there"))
    try:
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    finally:  # nobody would know of a run that goes on alone, and the next call would write where it writes
        for run in (r for r in runs if r.is_alive()):
            run.terminate()
            run.join()
        signal.signal(signal.SIGTERM, told)
    if any(run.exitcode for run in runs):
        raise RuntimeError(f"a run ended with {[run.exitcode for run in runs]}; what {out} and {other} have saved is there")
