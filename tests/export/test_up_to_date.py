"""What is in the repository is used again only while it is what would be exported now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from export import repository as repositories
from export.repository import NANO, export_whisper, up_to_date


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Path]:
    """A repository, and the checkpoint folder that its one model was made from."""
    checkpoint = tmp_path / "whisper-mine"
    shutil.copytree(NANO, checkpoint)
    assert export_whisper(str(checkpoint), tmp_path / "models") == "mine"
    return tmp_path / "models", checkpoint


def test_a_fresh_export_is_up_to_date(exported: tuple[Path, Path]):
    models, checkpoint = exported
    assert up_to_date(models, "mine", precision="fp32", folder=checkpoint)


def test_a_changed_file_another_precision_or_a_missing_model_is_not(exported: tuple[Path, Path]):
    models, checkpoint = exported
    assert not up_to_date(models, "mine", precision="int8")
    assert not up_to_date(models, "other")
    with (models / "whisper_mine" / "1" / "decoder.onnx").open("ab") as file:
        file.write(b"x")
    assert not up_to_date(models, "mine", folder=checkpoint)


def test_a_checkpoint_trained_further_is_noticed(exported: tuple[Path, Path]):
    models, checkpoint = exported
    config = json.loads((checkpoint / "generation_config.json").read_text())
    (checkpoint / "generation_config.json").write_text(json.dumps(config | {"max_length": 100}))
    assert not up_to_date(models, "mine", folder=checkpoint)
    assert up_to_date(models, "mine")


def test_another_version_of_the_exporter_exports_again(exported: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    models, _ = exported
    monkeypatch.setattr(repositories, "exporter_version", lambda: "another")
    assert not up_to_date(models, "mine")
