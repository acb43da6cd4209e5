"""The same checkpoint, the same audio, three readers: our engine, `faster-whisper`, `transformers`.

`python -m bench.parity [--checkpoint FOLDER] [--test FOLDER] [--utterances N]`. Greedy, no timestamps, no fallback, whole
utterances in 30 s windows for all three; ours also in the windows that the checkpoint declares. Reported: the share of
utterances with the very same tokens, and word error rates by one normaliser. Exits with 1 below the promise (95 % and
0.2 points). `FOLDER` holds `seen.pcm` and so on, made by `export.nano.corpus.synthesise_test`; without one it is made.

What is known to differ, and is set aside here: faster-whisper pads the features with zeros, where the reference pads the
audio (it is given padded audio), and suppresses non-speech tokens by a list of its own (it is given the checkpoint's); the
peers forbid an empty text, and go on in a loop up to the limit where our engine ends the text. A text that ours ended so
counts as the same if it is the beginning of the peer's.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.checkpoint import open_checkpoint
from export.engine.scheduler import LONGEST_TEXT, TOKENS_PER_SECOND
from export.engine.scores import repeats
from export.nano import corpus
from export.nano.evaluate import Recogniser, word_errors
from export.repository import NANO, vocabulary

RATE = 16_000
WINDOW_S = 30
RESULTS = Path(__file__).parent / "results"
SAME, WER_POINTS = 0.95, 0.2
Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Text:
    tokens: list[int]
    text: str


@dataclass(frozen=True)
class Agreement:
    """Of a peer with our engine. Shares are of utterances; WER in percent."""

    identical: float
    same: float
    """Those too that our engine ended because they went on in circles."""
    wer: float
    wer_difference: float
    """Absolute, in points, from ours in the same windows."""

    @property
    def kept(self) -> bool:
        return self.same >= SAME and self.wer_difference <= WER_POINTS


def ours(checkpoint: Path, clips: Sequence[Pcm], window_s: float | None, precision: str = "fp32") -> list[Text]:
    """In windows of `window_s`, or those that the checkpoint declares."""
    recogniser = Recogniser(checkpoint, precision, beam_size=1)
    try:
        return [Text(h.tokens, h.text) for h in recogniser.transcribe(clips, window_s=window_s)]
    finally:
        recogniser.close()


def transformers(checkpoint: Path, clips: Sequence[Pcm], batch: int = 8) -> list[Text]:
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    files = open_checkpoint(str(checkpoint))
    tokens = vocabulary(files)
    begin = [t for t in files.generation.get("begin_suppress_tokens") or [] if t != tokens.eot]
    listed = [t for t in files.generation.get("suppress_tokens") or [] if t >= 0]
    special = [t for t in range(model.config.vocab_size) if not tokens.is_text(t) and t != tokens.eot]
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    out: list[Text] = []
    for i in range(0, len(clips), batch):
        waves = [c.astype(np.float32) / 32768 for c in clips[i : i + batch]]
        features = extractor(waves, sampling_rate=RATE, return_tensors="pt").input_features
        found = model.generate(
            features,
            decoder_input_ids=torch.tensor([tokens.prompt()] * len(waves)),
            do_sample=False,
            num_beams=1,
            max_new_tokens=LONGEST_TEXT,
            suppress_tokens=sorted({*special, *listed}),
            begin_suppress_tokens=begin or None,
            return_timestamps=False,
        )
        for row in found.tolist():
            text = [t for t in row if tokens.is_text(t)]
            out.append(Text(text, tokens.text(text)))
    return out


def converted(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint in CTranslate2's format, by its own converter (needs transformers and torch)."""
    from ctranslate2.converters import TransformersConverter

    out = folder / "ct2"
    TransformersConverter(str(checkpoint), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(str(out))
    return out


def faster_whisper(checkpoint: Path, clips: Sequence[Pcm], *, padded: bool = True) -> list[Text]:
    """`padded`: 30 s of audio, as the reference has it; else it fills up the features itself."""
    from faster_whisper import WhisperModel

    files = open_checkpoint(str(checkpoint))
    tokens = vocabulary(files)
    listed = [t for t in files.generation.get("suppress_tokens") or [] if t >= 0]
    options: dict[str, Any] = {
        "beam_size": 1, "temperature": 0.0, "without_timestamps": True, "condition_on_previous_text": False,
        "language": "en", "suppress_tokens": listed, "no_speech_threshold": None, "log_prob_threshold": None,
        "compression_ratio_threshold": None, "max_new_tokens": LONGEST_TEXT,
    }  # fmt: skip
    out: list[Text] = []
    with tempfile.TemporaryDirectory() as folder:
        model = WhisperModel(str(converted(checkpoint, Path(folder))), device="cpu", compute_type="float32", cpu_threads=1)
        for clip in clips:
            window = np.zeros(WINDOW_S * RATE if padded else len(clip), np.float32)
            window[: len(clip)] = clip / 32768
            segments, _ = model.transcribe(window, **options)
            text = [t for s in segments for t in s.tokens if tokens.is_text(t)]
            out.append(Text(text, tokens.text(text)))
    return out


PEERS: dict[str, Callable[[Path, Sequence[Pcm]], list[Text]]] = {
    "transformers": transformers,
    "faster-whisper": faster_whisper,
}
TOLD = {"faster-whisper, own padding": functools.partial(faster_whisper, padded=False)}
"""Not judged: what a user of the package gets who does nothing about it."""


def same(our: list[int], their: list[int], n_samples: int) -> bool:
    """Equal, or ended by our engine's guards where the peer went on."""
    if our == their:
        return True
    if our != their[: len(our)]:
        return False
    limit = 8 + n_samples * TOKENS_PER_SECOND // RATE
    return len(our) == limit or any(repeats(their[:n]) for n in range(len(our), len(their) + 1))


def agreement(our: list[Text], their: list[Text], clips: Sequence[Pcm], references: Sequence[str]) -> Agreement:
    pairs = list(zip(our, their, clips, strict=True))
    mine, peers = (word_errors(references, [t.text for t in texts]).wer for texts in (our, their))
    return Agreement(
        sum(a.tokens == b.tokens for a, b, _ in pairs) / len(pairs),
        sum(same(a.tokens, b.tokens, len(c)) for a, b, c in pairs) / len(pairs),
        round(peers, 2),
        round(abs(mine - peers), 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=NANO)
    parser.add_argument("--test", type=Path, help="folder with the test set")
    parser.add_argument("--set", default="seen", help="seen, unseen: voices of the training, or not")
    parser.add_argument("--utterances", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = args.test or Path(made)
        if args.test is None:
            corpus.synthesise_test(folder, args.utterances)
        items = corpus.read_shard(folder / f"{args.set}.jsonl")[: args.utterances]
        clips, references = [i.audio() for i in items], [i.text for i in items]
    whole = ours(args.checkpoint, clips, WINDOW_S)
    own = ours(args.checkpoint, clips, None)
    rows = {"30 s windows": word_errors(references, [t.text for t in whole]).wer}
    rows["own windows"] = word_errors(references, [t.text for t in own]).wer
    peers = PEERS | TOLD
    found = {name: agreement(whole, peer(args.checkpoint, clips), clips, references) for name, peer in peers.items()}
    print(f"{len(clips)} utterances, {sum(map(len, clips)) / RATE:.0f} s")
    for name, wer in rows.items():
        print(f"VoiceForge, {name:15} WER {wer:6.2f} %")
    for name, a in found.items():
        print(
            f"{name:27} WER {a.wer:6.2f} %  identical {100 * a.identical:5.1f} %  same {100 * a.same:5.1f} %  "
            f"WER differs by {a.wer_difference:.2f}"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {
        "checkpoint": args.checkpoint.name, "set": args.set, "utterances": len(clips),
        "ours": {n: round(w, 2) for n, w in rows.items()}, "peers": {n: asdict(a) for n, a in found.items()},
    }  # fmt: skip
    (RESULTS / "parity.json").write_text(json.dumps(content, indent=1) + "\n")
    if not all(found[name].kept for name in PEERS):
        sys.exit(1)


if __name__ == "__main__":
    main()
