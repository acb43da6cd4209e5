"""Parts of the quality page are kept as they are measured; the page is of one checkpoint, whole, or not written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from bench.quality import ALL, OUT, keep, main, report


def test_the_page_in_the_docs_is_what_its_figures_say():
    assert (OUT / "README.md").read_text() == report(json.loads((OUT / "quality.json").read_text()))


def test_a_part_replaces_its_figures_and_no_page_mixes_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    known = json.loads((OUT / "quality.json").read_text())
    for name in ALL[1:]:
        keep(tmp_path, name, known[name]["measured"], known[name]["found"])
    assert "streaming missing" in capsys.readouterr().out
    assert not (tmp_path / "README.md").exists()
    keep(tmp_path, "streaming", known["streaming"]["measured"], known["streaming"]["found"])
    page = (tmp_path / "README.md").read_text()
    assert page == report(known)

    times = {"median_ms": 12.0, "p95_ms": 34.0, "edges": 56}
    keep(tmp_path, "word_times", known["word_times"]["measured"], times)
    assert "56 edges of rightly recognised words: median 12 ms, p95 34 ms" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").unlink()
    keep(tmp_path, "word_times", known["word_times"]["measured"] | {"files": "another"}, times)
    assert "another checkpoint" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "README.md").exists()


def test_an_unknown_part_is_answered_with_what_there_is():
    with pytest.raises(typer.BadParameter, match="noise: the parts are streaming"):
        main(part=["noise"])
