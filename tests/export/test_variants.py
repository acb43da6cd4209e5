"""Checkpoints as they are found on the hub, in miniature: exported, each says what `transformers` makes of it.

Random weights, written by `transformers` itself; the audio is noise. What differs between the variants is what differs
between official, distilled and fine-tuned Whisper checkpoints.
"""

from __future__ import annotations

import json
import queue
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from export.checkpoint import Checkpoint, open_checkpoint
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis, Job
from export.engine.scheduler import Scheduler
from export.engine.scores import repeats
from export.repository import NANO, export_whisper, vocabulary
from tests.export.checkpoints import config, local_session, random_whisper

N_TOKENS = 24
BASE = json.loads((NANO / "tokenizer.json").read_text())
N_TEXT = len(BASE["model"]["vocab"])


def tokenizer(
    *, n_languages: int = 99, no_speech: str = "<|nospeech|>", n_times: int = 1501, words: Sequence[str] = ()
) -> dict[str, Any]:
    """nano's text tokens with the special ones of an official layout, and a fine-tune's own `words` after them."""
    specials = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in list(LANGUAGES)[:n_languages])]
    specials += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", no_speech, "<|notimestamps|>"]
    times = [f"<|{i / 50:.2f}|>" for i in range(n_times)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"content": t, "special": True} for t in specials]
    added += [{"content": t, "special": False} for t in [*times, *words]]  # official timestamps are not special
    listed = [{"id": N_TEXT + i, **plain, **t} for i, t in enumerate(added)]
    return BASE | {"added_tokens": listed}


@dataclass(frozen=True)
class Variant:
    """What is unusual about a checkpoint."""

    layers: tuple[int, int] = (2, 2)
    shape: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    multilingual: bool = True
    padding: int = 0
    """Rows of the embedding beyond the tokenizer's last token."""
    generation: dict[str, Any] | None = field(default_factory=dict)
    """`generation_config.json` beyond the usual; None: there is none."""
    dtype: torch.dtype = torch.float32
    spoil: Callable[[Path], None] | None = None
    """Changes the files after they were written, without changing what they mean."""


def _pickle(folder: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype="auto")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _pickle_in_shards(folder: Path) -> None:
    state = WhisperForConditionalGeneration.from_pretrained(folder, dtype="auto").state_dict()
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    where = {n: f"pytorch_model-{1 + i * 2 // len(names):05d}-of-00002.bin" for i, n in enumerate(names)}
    for shard in set(where.values()):
        torch.save({n: state[n] for n in names if where[n] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _shard(folder: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype="auto")
    generation = (folder / "generation_config.json").read_text()
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="300KB")
    (folder / "generation_config.json").write_text(generation)
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def _older_tokenizer(folder: Path) -> None:
    """`vocab.json`, `merges.txt`, `added_tokens.json`: all that the tokenizers of 2022 left behind."""
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    shutil.copy(NANO / "merges.txt", folder)
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (folder / "added_tokens.json").write_text(json.dumps({t["content"]: t["id"] for t in content["added_tokens"]}))


ACTIVATIONS = ("relu", "silu", "swish", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu")
VARIANTS: dict[str, Variant] = {
    "tiny, base, small, medium, large-v2": Variant(),
    "english only": Variant(multilingual=False, generation={"is_multilingual": False}),
    "large-v3": Variant(shape={"n_mels": 128}, tokens={"n_languages": 100}),
    "large-v3-turbo": Variant((6, 4), {"n_mels": 128}, {"n_languages": 100}),
    "distil-large-v3": Variant((6, 2), {"n_mels": 128}, {"n_languages": 100}),
    "distil with its teacher's alignment heads": Variant((4, 2), generation={"alignment_heads": [[1, 0], [7, 1], [9, 3]]}),
    "one decoder layer": Variant((2, 1)),
    "other heads in the decoder": Variant(shape={"decoder_attention_heads": 4, "encoder_attention_heads": 2}),
    "other widths inside": Variant(shape={"encoder_ffn_dim": 96, "decoder_ffn_dim": 160}),
    "a shorter encoder": Variant(shape={"max_source_positions": 750}),
    "scaled embedding": Variant(shape={"scale_embedding": True}),
    "untied head": Variant(shape={"tie_word_embeddings": False}),
    "padded vocabulary": Variant(padding=37),
    "no timestamps in the tokenizer": Variant(tokens={"n_times": 0}, padding=1501),
    "nocaptions": Variant(tokens={"no_speech": "<|nocaptions|>"}),
    "words of its own": Variant(tokens={"words": [" brrr", "zzz"]}),
    "suppressed tokens": Variant(generation={"suppress_tokens": list(range(5, 600)), "begin_suppress_tokens": [220, 1000]}),
    "null lists": Variant(generation={"suppress_tokens": None, "begin_suppress_tokens": None}),
    "no generation_config.json": Variant(
        generation=None, shape={"suppress_tokens": [*range(5, 400)], "begin_suppress_tokens": [220, 900]}
    ),
    "fp16": Variant(dtype=torch.float16),
    "bf16": Variant(dtype=torch.bfloat16),
    "sharded": Variant(spoil=_shard),
    "pytorch_model.bin": Variant(spoil=_pickle),
    "pytorch_model.bin in bf16": Variant(dtype=torch.bfloat16, spoil=_pickle),
    "pytorch_model.bin in shards": Variant(spoil=_pickle_in_shards),
    "tokenizer of 2022": Variant(spoil=_older_tokenizer),
    **{name: Variant(shape={"activation_function": name}) for name in ACTIVATIONS},
}


def save(variant: Variant, folder: Path) -> Path:
    """The checkpoint as `transformers` saves it, then as it was spoilt."""
    content = tokenizer(**variant.tokens)
    ids = {t["content"]: t["id"] for t in content["added_tokens"]}
    vocabulary = N_TEXT + len(ids) + variant.padding
    ends, begins = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    special = {"pad_token_id": ends, "bos_token_id": ends, "eos_token_id": ends, "decoder_start_token_id": begins}
    shape = config(32, variant.layers, 2, vocabulary=vocabulary, **special)
    for name, value in variant.shape.items():
        setattr(shape, {"n_mels": "num_mel_bins"}.get(name, name), value)
    model = random_whisper(shape)
    with torch.no_grad():  # a text that wanders, rather than one that turns in circles
        places = model.model.decoder.embed_positions.weight
        places.copy_(torch.randn(places.shape, generator=torch.Generator().manual_seed(3)))
    model.to(variant.dtype).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    written |= {k: v for k, v in variant.shape.items() if k.endswith("suppress_tokens")}
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "tokenizer.json").write_text(json.dumps(content))
    generation = folder / "generation_config.json"
    if variant.generation is None:
        generation.unlink(missing_ok=True)
    else:
        usual = {"is_multilingual": variant.multilingual, "begin_suppress_tokens": [220], "suppress_tokens": []}
        generation.write_text(json.dumps(json.loads(generation.read_text()) | usual | variant.generation))
    if variant.spoil:
        variant.spoil(folder)
    return folder


def sounds(seconds: int) -> list[np.ndarray]:
    """Noises of different colour and length, int16."""
    r = np.random.default_rng(11)
    return [
        (np.convolve(r.normal(size=round(s * 16_000)), np.hanning(n) / n, mode="same") * 20_000).astype(np.int16)
        for s, n in ((2.0, 3), (seconds / 2, 31), (seconds - 1, 101))
    ]


def expected(folder: Path, checkpoint: Checkpoint, prompt: list[int], variant: Variant) -> list[list[int]]:
    """Greedy, by `transformers`: with the lists of the checkpoint, and no specials or times (we decode plain text)."""
    options: dict[str, Any] = {}
    if variant.spoil in (_pickle, _pickle_in_shards):
        options["use_safetensors"] = False
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **options).eval()
    tokens = checkpoint.tokenizer.get_added_tokens_decoder()
    special = [i for i, t in tokens.items() if t.content.startswith("<|") and t.content != "<|endoftext|>"]
    padding = range(max(tokens) + 1, model.config.vocab_size)
    listed = [i for i in checkpoint.generation.get("suppress_tokens") or [] if i >= 0]
    window = checkpoint.window_s
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=window)
    waves = [a.astype(np.float32) / 32768 for a in sounds(window)]
    features = extractor(waves, sampling_rate=16_000, return_tensors="pt").input_features
    found = model.generate(
        features,
        decoder_input_ids=torch.tensor([prompt] * len(waves)),
        do_sample=False,
        num_beams=1,
        max_new_tokens=N_TOKENS,
        suppress_tokens=sorted({*special, *padding, *listed}),
        begin_suppress_tokens=checkpoint.generation.get("begin_suppress_tokens", [220]),
        return_timestamps=False,
    )
    end = checkpoint.tokenizer.token_to_id("<|endoftext|>")
    return [[t for t in row if t != end] for row in found[:, -N_TOKENS:].tolist()]


def decoded(repository: Path, checkpoint: Checkpoint) -> list[Hypothesis]:
    """By the exported model: its encoder, and the engine over its graphs."""
    version = repository / "whisper_m" / "1"
    graphs = sessions(version, ["CPUExecutionProvider"], 1)
    tokens = vocabulary(checkpoint)
    assert (version / "tokenizer.json").read_text() == checkpoint.tokenizer_json
    encoder = local_session(repository / "whisper_m_encoder" / "1" / "model.onnx")
    scheduler = Scheduler(Growing(graphs["cross"], graphs["decoder"], tokens), tokens)
    out: list[Hypothesis] = []
    for audio in sounds(checkpoint.window_s):
        padded = np.zeros((1, checkpoint.window_s * 16_000), np.int16)
        padded[0, : len(audio)] = audio
        hidden = encoder.run(["hidden_states"], {"audio": padded})[0][0]
        answer: queue.Queue[Hypothesis | Exception] = queue.Queue()
        prompt = tokens.prompt("de" if tokens.multilingual else "en")
        scheduler.submit(Job(hidden, len(audio), prompt, [], "en", want_words=True, done=answer.put))
        found = answer.get(timeout=60)
        assert isinstance(found, Hypothesis), found
        out.append(found)
    scheduler.stop()
    return out


@pytest.mark.parametrize("name", VARIANTS)
def test_an_exported_variant_says_what_transformers_says(name: str, tmp_path: Path):
    variant = VARIANTS[name]
    folder = save(variant, tmp_path / "whisper-variant")
    checkpoint = open_checkpoint(str(folder))
    export_whisper(str(folder), tmp_path / "models", name="m")
    prompt = vocabulary(checkpoint).prompt("de" if variant.multilingual else "en")
    assert len(prompt) == (4 if variant.multilingual else 2)
    wanted = expected(folder, checkpoint, prompt, variant)
    compared = 0
    for ours, theirs in zip(decoded(tmp_path / "models", checkpoint), wanted, strict=True):
        n = min(len(ours.tokens), N_TOKENS)
        assert ours.tokens[:n] == theirs[:n]
        if n < N_TOKENS and len(theirs) > n:  # the engine ends texts that turn in circles
            assert any(repeats(theirs[:k]) for k in range(n, len(theirs) + 1))
        assert "".join(ours.words).split() == ours.text.split()
        compared += n
    assert compared >= 24, "too little was said to tell anything"
