"""Packs trained weights as a Hugging Face Whisper checkpoint: fp16 safetensors, configs, tokenizer files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from export.nano import corpus
from export.nano.data import CHARS, phone_table
from export.nano.model import Dims, Whisper
from export.nano.tokenizer import languages_of

TOKENIZER = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
WINDOWS_S = (1, 2, 3, 4, 5, 6, 8, 10, 12)


def load(weights: Path) -> Whisper:
    """The model of a training checkpoint, its auxiliary heads dropped."""
    state = torch.load(weights, map_location="cpu", weights_only=True)["model"]
    state = {k: v for k, v in state.items() if not k.startswith(("phone_head", "char_head"))}
    model = Whisper(Dims.of(state))
    model.load_state_dict(state)
    return model.eval()


def unpack(checkpoint: Path, data: Path, run: Path, step: int) -> None:
    """Makes of a packed checkpoint a run that `train` goes on with at `step` of its schedule, on the shards in `data`.

    The heads of the training are not packed: they begin anew, and have learned what they need after a hundred steps.
    """
    packed = load_file(checkpoint / "model.safetensors")
    state = {name.removeprefix("model."): value.float() for name, value in packed.items()}
    phones = phone_table(corpus.read(data))
    torch.manual_seed(1)
    heads = Whisper(Dims.of(state), len(phones), len(CHARS) + 1).state_dict()
    (run / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copyfile(checkpoint / name, run / "tokenizer" / name)
    (run / "vocabulary.json").write_text(json.dumps({"phones": phones}))
    torch.save({"model": heads | state, "step": step, "begin": step}, run / "last.pt")


def average(paths: Sequence[Path], out: Path) -> None:
    """The mean of several training checkpoints' weights (the last ones of a run): a cheap point or two of accuracy."""
    states = [torch.load(p, map_location="cpu", weights_only=True) for p in paths]
    mean = {k: sum(s["model"][k].float() for s in states) / len(states) for k in states[0]["model"]}
    torch.save({"model": mean, "step": states[-1]["step"]}, out)


def kept(work: Path, steps: Sequence[int], last: int) -> list[Path]:
    """The checkpoints that the runs of `work` have of these steps, in their order, or the `last` ones.

    Raises `FileNotFoundError` for a step that no run has kept.
    """
    there = sorted(((int(p.stem.split("-")[1]), p) for p in work.glob("run*/step-*.pt")), key=lambda found: found[0])
    if missing := set(steps) - {step for step, _ in there}:
        raise FileNotFoundError(f"{work}: no run has kept step {min(missing)}, but {[step for step, _ in there]}")
    return [path for step, path in there if step in steps] if steps else [path for _, path in there[-last:]]


def package(
    weights: Path,
    tokenizer_folder: Path,
    out: Path,
    *,
    alignment_heads: Sequence[tuple[int, int]],
    windows_s: Sequence[int] = WINDOWS_S,
) -> None:
    """Writes the checkpoint folder `out` that transformers, faster-whisper's converter and our exporter read."""
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    model = load(weights)
    dims, ids = model.dims, tokenizer.token_to_id
    out.mkdir(parents=True, exist_ok=True)
    for file in tokenizer_folder.iterdir():
        shutil.copyfile(file, out / file.name)
    save_file(
        {k: v.half().contiguous() for k, v in model.checkpoint_tensors().items()},
        out / "model.safetensors",
        {"format": "pt"},
    )
    eot, sot, no_times = ids("<|endoftext|>"), ids("<|startoftranscript|>"), ids("<|notimestamps|>")
    languages = languages_of(tokenizer)
    multilingual = len(languages) > 1
    forced = (
        [[1, ids(f"<|{languages[0]}|>")], [2, ids("<|transcribe|>")], [3, no_times]] if multilingual else [[1, no_times]]
    )
    common = {
        "bos_token_id": eot,
        "eos_token_id": eot,
        "pad_token_id": eot,
        "decoder_start_token_id": sot,
        "begin_suppress_tokens": [],  # a bare space begins what few words begin with: Zero
        "suppress_tokens": [],
    }
    config = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "d_model": dims.d_model,
        "encoder_layers": dims.encoder_layers,
        "decoder_layers": dims.decoder_layers,
        "encoder_attention_heads": dims.heads,
        "decoder_attention_heads": dims.heads,
        "encoder_ffn_dim": 4 * dims.d_model,
        "decoder_ffn_dim": 4 * dims.d_model,
        "num_mel_bins": dims.n_mels,
        "vocab_size": dims.vocab_size,
        "max_source_positions": dims.max_source_positions,
        "max_target_positions": dims.max_target_positions,
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "torch_dtype": "float16",
        "forced_decoder_ids": forced,
        **common,
    }
    generation: dict[str, Any] = {
        **common,
        "alignment_heads": [list(pair) for pair in alignment_heads],
        "forced_decoder_ids": forced,
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": no_times,
        "prev_sot_token_id": ids("<|startofprev|>"),
        "return_timestamps": False,
    }
    if multilingual:
        generation["lang_to_id"] = {f"<|{code}|>": ids(f"<|{code}|>") for code in languages}
        generation["task_to_id"] = {"transcribe": ids("<|transcribe|>")}
    preprocessor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": dims.n_mels,
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }
    policy = {
        "windows_s": list(windows_s),
        "padding_s": 0.2,
        "beam_size": 5,
        "temperatures": [0.0],
        "context": False,
    }
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("preprocessor_config.json", preprocessor),
        ("voiceforge.json", policy),
    ):
        (out / name).write_text(json.dumps(content, indent=1) + "\n")
