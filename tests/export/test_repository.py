"""What an export leaves in the model repository: whole models, their manifest, never half a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import safetensors.numpy
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export import manifest
from export.checkpoint import CheckpointError, open_checkpoint
from export.repository import (
    NANO,
    export_silero,
    export_whisper,
    model_name,
    retune,
    up_to_date,
    window_lengths,
)
from export.triton_config import Tuning
from tests.conftest import ROOT
from tests.export.checkpoints import killed_half_way, random_whisper, save, toy


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(random_whisper(toy()), tmp_path_factory.mktemp("checkpoint") / "whisper-toy")


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(saved, tmp_path / "whisper-toy")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models"


def snapshot(repository: Path) -> dict[str, bytes]:
    return {str(p.relative_to(repository)): p.read_bytes() for p in repository.rglob("*") if p.is_file()}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "frontend", "models", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- names and windows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("openai/whisper-base.en", "base.en"),
        ("openai/whisper-large-v3-turbo", "large-v3-turbo"),
        ("distil-whisper/distil-small.en", "distil-small.en"),
        ("/data/my checkpoints/whisper_mine/", "mine"),
        ("/data/my whisper", "my-whisper"),
        ("/data/mein größtes", "mein-gr--tes"),
        ("nano", "nano"),
    ],
)
def test_a_model_is_named_after_the_last_part_of_its_source(source: str, name: str):
    assert model_name(source) == name


def test_a_checkpoint_in_the_working_directory_is_named_after_its_folder(
    checkpoint: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(checkpoint)
    assert export_whisper(".", target) == "toy"


def test_only_a_checkpoint_that_declares_it_gets_windows_under_thirty_seconds(checkpoint: Path):
    assert window_lengths(open_checkpoint(str(checkpoint))) == [30]
    (checkpoint / "voiceforge.json").write_text('{"windows_s": [2, 6]}')
    assert window_lengths(open_checkpoint(str(checkpoint))) == [2, 6]
    assert max(window_lengths(open_checkpoint(str(NANO)))) == 12


@pytest.mark.parametrize("windows", [[31], [0.01], [5, 0]])
def test_windows_that_the_encoder_does_not_take_are_refused(windows: list[float], checkpoint: Path, target: Path):
    (checkpoint / "voiceforge.json").write_text(json.dumps({"windows_s": windows}))
    with pytest.raises(CheckpointError, match=r"multiples of 0\.02 s up to 30"):
        export_whisper(str(checkpoint), target)


@pytest.mark.parametrize(
    ("specials", "multilingual"),
    [
        ("startoftranscript en zh de translate", True),
        ("startoftranscript en translate", False),
        ("startoftranscript translate", False),
    ],
)
def test_undeclared_the_tokenizer_tells_whether_prompts_name_a_language(specials: str, multilingual: bool, checkpoint: Path):
    """Whatever the size of the vocabulary, which fine-tunes pad."""
    (checkpoint / "generation_config.json").unlink()
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    plain = content["added_tokens"][0]
    names = ["endoftext", *specials.split()]
    listed = [plain | {"id": 1536 + i, "content": f"<|{name}|>"} for i, name in enumerate(names)]
    (checkpoint / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": listed}))
    assert open_checkpoint(str(checkpoint)).multilingual is multilingual


def test_the_numbering_of_english_only_models_tells_them_although_they_list_all_languages(checkpoint: Path):
    (checkpoint / "generation_config.json").unlink()
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"filler{i}": i for i in range(len(vocabulary), 50_256)}
    names = ["endoftext", "startoftranscript", "en", "zh", "de", "translate"]
    listed = [content["added_tokens"][0] | {"id": 50_256 + i, "content": f"<|{n}|>"} for i, n in enumerate(names)]
    (checkpoint / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": listed}))
    assert not open_checkpoint(str(checkpoint)).multilingual


@pytest.mark.parametrize("name", ["a b", "x/y", "mine_encoder", "é"])
def test_a_name_that_could_not_be_served_is_refused(name: str, checkpoint: Path, target: Path):
    with pytest.raises(ValueError, match="cannot name a model"):
        export_whisper(str(checkpoint), target, name=name)


# --- what is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_export_holds_valid_graphs_and_nothing_else(precision: str, saved: Path, target: Path):
    assert export_whisper(str(saved), target, precision=precision) == "toy"
    assert sorted(snapshot(target)) == [
        "manifest.json",
        "whisper_toy/1/cross.onnx",
        "whisper_toy/1/decoder.onnx",
        "whisper_toy/1/generation_config.json",
        "whisper_toy/1/model.py",
        "whisper_toy/1/tokenizer.json",
        "whisper_toy/1/whisper_engine/__init__.py",
        "whisper_toy/1/whisper_engine/alignment.py",
        "whisper_toy/1/whisper_engine/batch.py",
        "whisper_toy/1/whisper_engine/confidence.py",
        "whisper_toy/1/whisper_engine/growing.py",
        "whisper_toy/1/whisper_engine/jobs.py",
        "whisper_toy/1/whisper_engine/scheduler.py",
        "whisper_toy/1/whisper_engine/scores.py",
        "whisper_toy/1/whisper_engine/search.py",
        "whisper_toy/1/whisper_engine/slots.py",
        "whisper_toy/1/whisper_engine/usage.py",
        "whisper_toy/1/whisper_engine/vocabulary.py",
        "whisper_toy/1/whisper_engine/windows.py",
        "whisper_toy/config.pbtxt",
        "whisper_toy_encoder/1/model.onnx",
        "whisper_toy_encoder/config.pbtxt",
    ]
    for path in target.rglob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=precision != "int8")  # int8 has operators of onnxruntime's own
    assert manifest.read(target)["models"]["toy"]["precision"] == precision


def test_slots_have_graphs_of_their_own_in_place_of_the_decoder(saved: Path, target: Path):
    export_whisper(str(saved), target, precision="fp16", tuning=Tuning(device="cuda"))
    version = target / "whisper_toy" / "1"
    assert sorted(p.name for p in version.glob("*.onnx")) == [
        f"{n}.onnx" for n in ("cross", "move", "place", "prefill", "step")
    ]
    for path in target.rglob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)
    with pytest.raises(ValueError, match="int8 is for CPUs"):
        export_whisper(str(saved), target, precision="int8", tuning=Tuning(device="cuda"))


def beam_size(target: Path) -> str:
    config = text_format.Parse((target / "whisper_toy" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    return config.parameters["beam_size"].string_value


def test_the_beam_is_the_operators_or_the_checkpoints_and_greedy_where_nobody_says(checkpoint: Path, target: Path):
    export_whisper(str(checkpoint), target)
    assert beam_size(target) == "1"
    (checkpoint / "voiceforge.json").write_text('{"beam_size": 4}')
    export_whisper(str(checkpoint), target)
    assert beam_size(target) == "4"
    export_whisper(str(checkpoint), target, tuning=Tuning(beam_size=2))
    assert beam_size(target) == "2"


@pytest.mark.parametrize(
    ("setting", "said", "why"),
    [
        *(("beam_size", said, "no whole number from 1 to 12") for said in ("0", "13", "2.5", '"many"', "true", "null")),
        *(("padding_s", said, "no time from 0 to") for said in ("-0.1", "31", '"long"', "true", "null", "NaN")),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(checkpoint: Path, target: Path, setting: str, said: str, why: str):
    (checkpoint / "voiceforge.json").write_text(f'{{"{setting}": {said}}}')
    with pytest.raises(CheckpointError, match=why):
        export_whisper(str(checkpoint), target)
    assert not list(target.parent.rglob("*whisper_toy*"))


def test_a_model_is_retuned_without_being_exported_again(checkpoint: Path, target: Path):
    (checkpoint / "voiceforge.json").write_text('{"beam_size": 3}')
    export_whisper(str(checkpoint), target, tuning=Tuning(slots=True, beam_size=2))
    graph = (target / "whisper_toy" / "1" / "step.onnx").stat().st_mtime_ns
    tuning = Tuning(slots=True, max_rows=7, encoder_batch=3, instances=5, cuda_graphs=True)
    retune(target, "toy", tuning)
    config = text_format.Parse((target / "whisper_toy" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.instance_group[0].count == 5
    told = {k: v.string_value for k, v in config.parameters.items()}
    assert (told["max_rows"], told["encoder_batch"], told["cuda_graphs"]) == ("7", "3", "true")
    assert told["beam_size"] == "3", "nobody asks for another one any more"
    assert (target / "whisper_toy" / "1" / "step.onnx").stat().st_mtime_ns == graph
    assert up_to_date(target, "toy", precision="fp32")
    assert Tuning(**manifest.read(target)["models"]["toy"]["tuning"]) == tuning
    with pytest.raises(ValueError, match="another kind of device"):
        retune(target, "toy", Tuning())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["speed=9"], "what can be tuned is device"),
        (["max_rows"], "takes a number"),
        (["max_rows=many"], "takes a number"),
        (["cuda_graphs=yes"], "takes true or false"),
        (["device=tpu"], "not cpu or cuda"),
        (["instances=0"], "at least 1"),
        (["beam_size=13"], "between 1 and 12"),
    ],
)
def test_a_tuning_that_makes_no_sense_is_refused(pairs: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        Tuning.parse(pairs)


def test_a_tuning_is_read_from_pairs():
    assert Tuning.parse(["device=cuda", "max_rows=8", "cuda_graphs=true"]) == Tuning("cuda", max_rows=8, cuda_graphs=True)
    assert Tuning.parse([]) == Tuning()


def test_fp16_halves_the_weights_and_int8_makes_them_smaller_still(saved: Path, tmp_path: Path):
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        export_whisper(str(NANO), tmp_path / precision, precision=precision, name="m")
        sizes[precision] = (tmp_path / precision / "whisper_m_encoder" / "1" / "model.onnx").stat().st_size
    assert 0.45 < sizes["fp16"] / sizes["fp32"] < 0.6
    assert sizes["int8"] < sizes["fp32"] / 2


def test_an_unknown_precision_is_refused_before_anything_is_written(saved: Path, target: Path):
    with pytest.raises(ValueError, match="'int4' is not one of fp32, fp16, int8"):
        export_whisper(str(saved), target, precision="int4")
    assert not target.exists()


# --- manifest -----------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_a_model_was_made_from(saved: Path, target: Path):
    export_whisper(str(saved), target)
    export_silero(target)
    models = manifest.read(target)["models"]
    assert set(models) == {"toy", "silero_vad"}
    entry = models["toy"]
    assert entry["source"] == "whisper-toy"
    assert entry["source_sha256"]["model.safetensors"] == manifest.sha256(saved / "model.safetensors")
    assert entry["kind"] == "whisper"
    assert entry["windows_s"] == [30]
    assert (entry["multilingual"], entry["languages"], entry["tasks"]) == (False, ["en"], ["transcribe"])
    assert entry["versions"]["numpy"].startswith("1.")
    for file, digest in entry["sha256"].items():
        assert manifest.sha256(target / file) == digest
    assert models["silero_vad"]["source"].startswith("faster-whisper/silero_vad_v")


def test_changed_and_missing_files_are_found_by_their_hashes(saved: Path, target: Path):
    export_whisper(str(saved), target)
    assert manifest.changed(target, "toy") == []
    with (target / "whisper_toy" / "1" / "decoder.onnx").open("ab") as file:
        file.write(b"!")
    (target / "whisper_toy_encoder" / "config.pbtxt").unlink()
    assert sorted(manifest.changed(target, "toy")) == ["whisper_toy/1/decoder.onnx", "whisper_toy_encoder/config.pbtxt"]


def test_exporting_again_replaces_one_entry_and_leaves_the_others(saved: Path, target: Path):
    export_whisper(str(saved), target)
    export_whisper(str(saved), target, name="other")
    before = manifest.read(target)["models"]
    export_whisper(str(saved), target, precision="int8")
    after = manifest.read(target)["models"]
    assert after["other"] == before["other"]
    assert after["toy"]["precision"] == "int8"
    assert manifest.changed(target, "toy") == manifest.changed(target, "other") == []


# --- half models --------------------------------------------------------------------------------------------------


def _without_the_last_decoder_weight(checkpoint: Path) -> None:
    content = safetensors.numpy.load_file(checkpoint / "model.safetensors")
    del content["model.decoder.layer_norm.weight"]
    safetensors.numpy.save_file(content, checkpoint / "model.safetensors")


def test_a_failed_export_leaves_no_half_model(checkpoint: Path, target: Path):
    _without_the_last_decoder_weight(checkpoint)
    with pytest.raises(CheckpointError):
        export_whisper(str(checkpoint), target)
    assert not list(target.glob("whisper_*"))
    assert manifest.read(target)["models"] == {}


def test_a_failed_export_leaves_the_model_that_was_there(checkpoint: Path, target: Path):
    export_whisper(str(checkpoint), target)
    before = snapshot(target)
    _without_the_last_decoder_weight(checkpoint)
    with pytest.raises(CheckpointError):
        export_whisper(str(checkpoint), target, precision="int8")
    after = snapshot(target)
    assert {k: v for k, v in after.items() if not k.startswith(".")} == before  # the rest is no model
    assert manifest.changed(target, "toy") == []


def test_an_export_killed_half_way_leaves_no_half_model_and_the_next_one_succeeds(target: Path):
    killed_half_way(target)
    assert not list(target.glob("whisper_*"))
    assert manifest.read(target)["models"] == {}
    export_whisper(str(NANO), target, name="nano")
    assert manifest.changed(target, "nano") == []
    assert {p.name for p in target.iterdir()} == {"manifest.json", "whisper_nano", "whisper_nano_encoder"}


def test_a_truncated_weights_file_is_one_line_on_the_command_line(checkpoint: Path, target: Path):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    done = command("export", str(checkpoint), "--model-repository", str(target))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in said
    assert "model.safetensors" in said


def test_a_folder_without_a_checkpoint_is_one_line_on_the_command_line(tmp_path: Path, target: Path):
    (tmp_path / "empty").mkdir()
    done = command("export", str(tmp_path / "empty"), "--model-repository", str(target))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in said
    assert "config.json, tokenizer.json missing" in said
