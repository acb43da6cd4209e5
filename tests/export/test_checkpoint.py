"""Reading a checkpoint: every layout found in the wild, and errors that say what is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from tokenizers import Tokenizer
from transformers import WhisperForConditionalGeneration

from export.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from export.manifest import sha256
from export.repository import NANO
from export.tokenizer import tokenizer_json
from tests.export.checkpoints import Graphs, random_whisper, save, toy


@pytest.fixture(scope="module")
def model() -> WhisperForConditionalGeneration:
    return random_whisper(toy())


@pytest.fixture
def folder(model: WhisperForConditionalGeneration, tmp_path: Path) -> Path:
    return save(model, tmp_path / "whisper-toy")


def weights(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """By the names the exporter asks for; the head shares the embedding's weight."""
    state = {n.removeprefix("model."): p.float().numpy() for n, p in model.state_dict().items()}
    state.pop("proj_out.weight")
    return state


def same_weights(checkpoint: Checkpoint, model: WhisperForConditionalGeneration) -> None:
    for name, value in weights(model).items():
        found = checkpoint.tensor(name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, value, err_msg=name)


def test_a_folder_saved_by_transformers_is_read_as_it_is(folder: Path, model: WhisperForConditionalGeneration):
    checkpoint = open_checkpoint(str(folder))
    same_weights(checkpoint, model)
    assert checkpoint.source == "whisper-toy"
    assert checkpoint.layers == (1, 2)
    assert not checkpoint.has("encoder.layers.0.self_attn.k_proj.bias")  # Whisper's keys have none


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_read_exactly(dtype: torch.dtype, tmp_path: Path):
    model = random_whisper(toy()).to(dtype)
    folder = save(model, tmp_path / "half")
    raw = (folder / "model.safetensors").read_bytes()
    assert (b'"BF16"' if dtype is torch.bfloat16 else b'"F16"') in raw
    same_weights(open_checkpoint(str(folder)), model)


def test_shards_are_read_through_their_index(model: WhisperForConditionalGeneration, tmp_path: Path):
    folder = save(model, tmp_path / "sharded", max_shard_size="150KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    checkpoint = open_checkpoint(str(folder))
    same_weights(checkpoint, model)
    assert {p.name for p in folder.glob("model-*.safetensors")} <= set(checkpoint.hashes())


def test_bfloat16_shards_are_read_too(tmp_path: Path):
    model = random_whisper(toy()).to(torch.bfloat16)
    same_weights(open_checkpoint(str(save(model, tmp_path / "sharded", max_shard_size="80KB"))), model)


def test_weights_are_found_without_the_model_prefix(folder: Path, model: WhisperForConditionalGeneration, tmp_path: Path):
    with_prefix = Graphs(open_checkpoint(str(folder)), tmp_path / "with")
    content = safetensors.numpy.load_file(folder / "model.safetensors")
    assert all(n.startswith("model.") for n in content)
    bare = {n.removeprefix("model."): v for n, v in content.items()}
    safetensors.numpy.save_file(bare, folder / "model.safetensors")
    same_weights(open_checkpoint(str(folder)), model)
    without = Graphs(open_checkpoint(str(folder)), tmp_path / "without")
    audio = np.random.default_rng(0).integers(-9000, 9000, 16_000).astype(np.int16)
    np.testing.assert_array_equal(with_prefix.encode(audio), without.encode(audio))


def test_a_path_may_begin_at_the_home_directory(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert open_checkpoint("~/whisper-toy").config["d_model"] == 32


def test_hashes_are_those_of_the_files_that_an_export_reads(folder: Path):
    hashes = open_checkpoint(str(folder)).hashes()
    assert set(hashes) == {"config.json", "tokenizer.json", "generation_config.json", "model.safetensors"}
    for name, digest in hashes.items():
        assert digest == sha256(folder / name)


def test_listed_alignment_heads_are_used_and_else_those_of_the_upper_half(folder: Path):
    assert open_checkpoint(str(folder)).alignment_heads == [(1, 0), (1, 1)]
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps(json.loads(generation.read_text()) | {"alignment_heads": [[0, 1], [1, 0]]}))
    assert open_checkpoint(str(folder)).alignment_heads == [(0, 1), (1, 0)]


def test_heads_that_do_not_exist_do_not_count(folder: Path):
    """As in distilled checkpoints with the list of their teacher."""
    generation = folder / "generation_config.json"
    content = json.loads(generation.read_text())
    generation.write_text(json.dumps(content | {"alignment_heads": [[0, 1], [1, 2], [2, 0]]}))
    assert open_checkpoint(str(folder)).alignment_heads == [(0, 1)]
    generation.write_text(json.dumps(content | {"alignment_heads": [[7, 1]]}))
    assert open_checkpoint(str(folder)).alignment_heads == [(1, 0), (1, 1)]


def test_without_a_generation_config_the_lists_are_those_of_the_config(folder: Path, tmp_path: Path):
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    lists = {"suppress_tokens": [1, 2], "begin_suppress_tokens": [3]}
    path.write_text(json.dumps(json.loads(path.read_text()) | lists))
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.generation == lists
    Graphs(checkpoint, tmp_path)


def test_the_older_tokenizer_files_make_the_same_tokenizer(tmp_path: Path):
    text = "Well, it's 3.14% of Zürich — isn't it? 東京"
    wanted = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        shutil.copy(NANO / name, tmp_path)
    found = Tokenizer.from_str(tokenizer_json(tmp_path))
    assert found.get_vocab() == wanted.get_vocab()
    assert found.encode(text).ids == wanted.encode(text).ids
    assert found.decode(wanted.encode(text).ids) == text
    listed = {str(i): {"content": t.content, "special": t.special} for i, t in found.get_added_tokens_decoder().items()}
    (tmp_path / "added_tokens.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    assert Tokenizer.from_str(tokenizer_json(tmp_path)).get_vocab() == wanted.get_vocab()


def test_added_tokens_that_leave_a_gap_are_refused(folder: Path):
    (folder / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(NANO / name, folder)
    (folder / "added_tokens.json").write_text('{"<|endoftext|>": 2000}')
    with pytest.raises(CheckpointError, match=r"whisper-toy: the added tokens do not go on where vocab\.json ends"):
        open_checkpoint(str(folder)).tokenizer_json  # noqa: B018


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(name: str, folder: Path):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} missing"):
        open_checkpoint(str(folder))


def test_all_missing_files_are_named_at_once(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"config\.json, tokenizer\.json missing"):
        open_checkpoint(str(tmp_path))


def test_another_kind_of_model_is_refused_by_its_type(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "wav2vec2"}))
    with pytest.raises(CheckpointError, match="model_type 'wav2vec2', not 'whisper'"):
        open_checkpoint(str(folder))


OTHERS = {
    "adapter_config.json": ('{"base_model_name_or_path": "openai/whisper-small"}', "LoRA", "openai/whisper-small"),
    "model.bin": ("", "CTranslate2", "Hugging Face checkpoint that it was made from"),
    "flax_model.msgpack": ("", "Flax", "from_flax=True"),
    "tf_model.h5": ("", "TensorFlow", "from_tf=True"),
    "large-v3.pt": ("", "openai/whisper's own format", "convert_openai_to_hf.py"),
    "ggml-base.en.bin": ("", r"whisper\.cpp", "Hugging Face checkpoint that it was made from"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_weights_in_another_format_are_called_by_its_name(name: str, folder: Path):
    content, what, advice = OTHERS[name]
    (folder / "model.safetensors").unlink()
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{what}.*{advice}"):
        open_checkpoint(str(folder)).tensor("encoder.conv1.weight")


def test_a_repo_with_an_adapter_only_says_how_to_merge_it(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "openai/whisper-small"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"openai/whisper-small.*merge_and_unload\(\)\.save_pretrained\(OUT\)"):
        open_checkpoint(str(tmp_path))


def test_a_folder_without_weights_says_what_is_missing(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        open_checkpoint(str(folder)).tensor("encoder.conv1.weight")


def test_an_activation_that_no_whisper_has_is_named(folder: Path):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"activation_function": "mish"}))
    with pytest.raises(CheckpointError, match="activation_function 'mish' is not among gelu, "):
        Graphs(open_checkpoint(str(folder)), folder)


def test_a_decoder_with_too_short_a_context_is_refused(tmp_path: Path):
    shape = toy()
    shape.max_target_positions = 100
    checkpoint = open_checkpoint(str(save(random_whisper(shape), tmp_path / "short")))
    with pytest.raises(CheckpointError, match="takes 100 tokens; the engine needs 448"):
        Graphs(checkpoint, tmp_path)


def test_a_missing_weight_is_named(folder: Path):
    content = safetensors.numpy.load_file(folder / "model.safetensors")
    del content["model.decoder.layers.1.fc2.weight"]
    safetensors.numpy.save_file(content, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"whisper-toy: the weight 'decoder\.layers\.1\.fc2\.weight' is missing"):
        Graphs(open_checkpoint(str(folder)), folder)


def test_a_missing_shard_is_named(model: WhisperForConditionalGeneration, tmp_path: Path):
    folder = save(model, tmp_path / "sharded", max_shard_size="150KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"lacks {re.escape(shard.name)}, which model.safetensors.index.json names"):
        open_checkpoint(str(folder)).tensor("encoder.conv1.weight")
