"""The report: what it says, and that it is there without the packages that make it complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from frontend.capacity import command, errors, plots, wer
from frontend.capacity.document import Heading, Items, Picture, Table, Text, markdown, page
from frontend.capacity.report import Report
from frontend.capacity.servers import Usage
from frontend.capacity.tables import HEADER, line
from frontend.settings import Settings
from tests.conftest import ROOT
from tests.unit.capacity_steps import heard, step

ALONE = heard()
STEPS = [
    step(1),
    step(10),
    step(20, heard=heard(140.0)),
    step(40, heard=heard(2400.0, errors=["a|b <script>"]), alone=ALONE, decoder=0.97, engine_lag_ms=900.0),
]
VOID = step(60, heard=heard(3000.0, client_lag_ms=230.0), alone=ALONE, usage=Usage(0.9, 3.95, 4, 0.2), triton_cores=2.6)


def report(*extra: object, target: int | None = None) -> Report:
    return Report({"when": "today"}, [*STEPS, *extra], "all its steps were done", target)  # type: ignore[list-item]


def test_the_summary_is_what_an_operator_wants_to_know():
    said = report().summary()
    assert "**20 streams at SLO**; plan for 14. With 40: 1 errors; final lag 2400 ms." in said
    assert "bends upwards at 20 streams" in said
    assert "Full first, at 40 streams: the decoder" in said
    assert report().warnings() == []


def test_void_steps_and_busy_neighbours_are_warned_of():
    assert report(VOID).void
    assert report(VOID).streams_at_slo == 20
    assert any("Void" in w and "60 streams" in w for w in report(VOID).warnings())
    crowded = Report({}, [step(2, usage=Usage(0.1, 2.5, 4, 0.2))], "it was interrupted")
    assert any("Other programs" in w for w in crowded.warnings())
    assert any("No stream was measured alone" in w for w in crowded.warnings())


def test_where_no_step_met_the_slo_there_is_a_report_all_the_same():
    slow = Report({}, [step(1, heard=heard(900.0))], "all its steps were done")
    assert slow.advice is None
    assert "No step met the SLO" in slow.summary()
    assert "What to set" not in markdown(slow.blocks(None))


def test_files(tmp_path: Path):
    written = report(VOID, target=100).write(tmp_path)
    assert {p.name for p in written} == {p.name for p in tmp_path.iterdir()}
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["streams_at_slo"] == 20
    assert content["advice"]["servers"] == 8
    assert content["saturation"]["what"] == "decoder"
    assert [s["verdict"] for s in content["steps"]][-2:] == [
        "1 errors; final lag 2400 ms",
        "void: the client was 230 ms late",
    ]
    assert (tmp_path / "capacity.png").read_bytes().startswith(b"\x89PNG")
    assert "![What was measured, step by step](capacity.png)" in (tmp_path / "report.md").read_text()


def test_the_page_is_whole_and_holds_nothing_from_elsewhere(tmp_path: Path):
    report(VOID).write(tmp_path)
    text = (tmp_path / "report.html").read_text()
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag != "script"
            assert not any(k in ("src", "href") and not (v or "").startswith("data:") for k, v in attrs)
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(text)
    assert not opened
    assert "data:image/png;base64," in text


def test_every_setting_that_is_named_exists():
    named = set(re.findall(r"VOICEFORGE_([A-Z_]+)", markdown(report().blocks(None))))
    assert named >= {"WORKERS", "MAX_CONNECTIONS", "ADMIT_LAG_S"}
    assert named <= {name.upper() for name in Settings.model_fields}


def test_without_the_extra_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    monkeypatch.setattr(wer, "find_spec", lambda _: None)
    written = report().write(tmp_path)
    assert {p.name for p in written} == {"report.html", "report.md", "report.json"}
    text = (tmp_path / "report.md").read_text()
    assert "pip install matplotlib" in text
    assert "pip install jiwer whisper-normalizer" in text


def test_a_picture_of_what_nobody_tells(tmp_path: Path):
    unknown = {"p50": None, "p95": None}
    silent = step(1, heard=heard(None, final_lag_ms=unknown, first_partial_ms=unknown), triton_cores=None, cores=None)
    assert plots.draw([silent], None).startswith(b"\x89PNG")
    assert line(silent)


def test_lines_of_the_terminal_stand_below_their_header():
    columns = [m.end() for m in re.finditer(r"\S(?=  |$)", HEADER)]
    for s in STEPS:
        assert len(line(s)) > columns[-2], "the last column begins where its heading does"
        assert line(s)[columns[0] - 2 : columns[0]].strip() == str(s.streams)[-2:]


def test_blocks_become_markdown_and_html():
    blocks = [Heading("A"), Text("**b** `c` <d>"), Items(["e"]), Table(["f"], [["g|h"]]), Picture("i.png", "j", b"k")]
    assert markdown(blocks) == "## A\n\n**b** `c` <d>\n\n- e\n\n| f |\n| --- |\n| g\\|h |\n\n![j](i.png)\n"
    html = page("T", blocks)
    assert "<strong>b</strong> <code>c</code> &lt;d&gt;" in html
    assert "<td>g|h</td>" in html


def test_a_report_that_cannot_be_written_is_told_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "report.html").mkdir()
    error = command._tell(report(), tmp_path)
    assert error
    assert error.code == "CANNOT_WRITE"
    assert "20 streams at SLO" in capsys.readouterr().err


def test_every_code_is_documented():
    text = (ROOT / "docs/capacity.md").read_text()
    kinds = errors.CapacityError.__subclasses__()
    assert len(kinds) > 7
    assert all(f"`{k.code}`" in text for k in kinds if k is not errors.StreamsRefused)


def test_the_command_line_starts_without_the_extra_packages():
    absent = "import sys; sys.modules |= dict.fromkeys(['matplotlib', 'jiwer', 'whisper_normalizer']); import frontend.cli"
    subprocess.run([sys.executable, "-c", absent], cwd=ROOT, check=True, timeout=120)
