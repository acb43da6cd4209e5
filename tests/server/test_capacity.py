"""`voiceforge capacity` against real servers: a ramp, and what can keep it from one. Nothing here fails on slowness."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from frontend.capacity.command import INTERRUPTED, VOID, WRONG
from frontend.capacity.probe import Probe
from frontend.capacity.saturation import WORDS
from frontend.capacity.servers import Reading
from frontend.capacity.target import Target
from frontend.embedded.layout import free_ports
from tests.conftest import ROOT, Server
from tests.loadtest.test_locust import folder as folder

METRICS = re.compile(r"http://127\.0\.0\.1:\d+/metrics(?=\s*│?\s*$)")
FILES = {"report.html", "report.md", "report.json", "capacity.png"}


def triton_metrics(server: Server) -> str:
    """As a person reads it from what `serve` says."""
    lines = [line for line in server.log.read_text().splitlines() if "healthz" not in line and "readyz" not in line]
    (url,) = {found[0] for line in lines if (found := METRICS.search(line)) and str(server.port) not in line}
    return url


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "frontend", "capacity", "--seconds", "5", *arguments]


def clean(**given: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("VOICEFORGE_")} | given


def capacity(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=clean(**environment), capture_output=True, text=True, timeout=170, check=False
    )


def failed(done: subprocess.CompletedProcess[str], code: str, *words: str) -> None:
    """One line with the code and what to do; no traceback."""
    assert done.returncode == WRONG, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{code}: ")]
    for word in words:
        assert word in line


@pytest.fixture(scope="module")
def measured(server: Server, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path, str]:
    """The report of a small ramp, its folder, and what was on the terminal."""
    out = tmp_path_factory.mktemp("capacity")
    done = capacity(
        "--server", server.http, "--triton-metrics", triton_metrics(server), "--ramp", "1,3", "--audio", str(folder),
        "--to-the-end", "--target", "50", "--out", str(out),
    )  # fmt: skip
    assert done.returncode in (0, VOID), done.stderr  # void where this machine was too busy to pace the audio
    return json.loads((out / "report.json").read_text()), out, done.stderr


def test_a_ramp_is_reported_with_figures_of_everything(measured: tuple[dict[str, object], Path, str]):
    report, out, said = measured
    assert {p.name for p in out.iterdir()} == FILES
    assert all(str(out / name) in said for name in FILES)
    assert [s["streams"] for s in report["steps"]] == [1, 3]
    for s in report["steps"]:
        assert s["heard"]["sentences"] == 2 * s["streams"]
        assert s["heard"]["errors"] == []
        assert s["heard"]["words"] > 10 * s["streams"]
        assert s["front"]["cores"] > 0
        assert s["front"]["memory_mib"] > 20
        assert {m["part"] for m in s["triton"]["models"]} == {"VAD", "encoder", "decoder"}
        for m in s["triton"]["models"]:
            assert m["requests_s"] > 0
            assert 0 < m["busy"] < 1.5
            assert m["cores"] > 0
            assert m["memory_mib"] > 20
        assert s["triton"]["cores"] > sum(m["cores"] for m in s["triton"]["models"]) * 0.99
        assert 0 < s["usage"]["client_cores"] < s["usage"]["machine_cores"]
        assert 0 < s["usage"]["machine_memory"] < 1
    assert report["saturation"]["what"] in {"", *WORDS}
    assert report["ended"] == "all its steps were done"


def test_the_terminal_tells_each_step_and_the_sum(measured: tuple[dict[str, object], Path, str]):
    _, _, said = measured
    lines = said.splitlines()
    assert any(line.startswith("streams ") for line in lines)
    assert [line.split()[0] for line in lines if re.match(r" +\d+ ", line)] == ["1", "3"]
    assert "at SLO" in said or "No step met the SLO" in said


def test_a_server_of_its_own_is_started_and_stopped(repository: Path, folder: Path, tmp_path: Path):
    done = capacity(
        "--model", "nano", "--ramp", "1", "--audio", str(folder), "--out", str(tmp_path),
        VOICEFORGE_MODEL_REPOSITORY=str(repository), VOICEFORGE_API_KEYS="secret",
    )  # fmt: skip
    assert done.returncode in (0, VOID), done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["steps"][0]["heard"]["sentences"] == 2
    assert report["conditions"]["server"].endswith("started by this command")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(report["conditions"]["server"].split(":")[2].split(",")[0])))


def test_a_server_of_its_own_that_does_not_come_up(tmp_path: Path):
    done = capacity("--model", "no/such-checkpoint", "--out", str(tmp_path), VOICEFORGE_MODEL_REPOSITORY=str(tmp_path / "m"))
    failed(done, "CANNOT_START", "voiceforge doctor")


def test_wrong_options(server: Server, tmp_path: Path):
    triton = ("--server", server.http, "--triton-metrics", triton_metrics(server))
    failed(capacity("--ramp", "1,many", "--out", str(tmp_path)), "INVALID_OPTION", "--ramp 1,5,10")
    failed(capacity("--ramp", "0", "--out", str(tmp_path)), "INVALID_OPTION", "--ramp")
    failed(capacity("--server", "ftp://x", "--out", str(tmp_path)), "INVALID_OPTION", "http://HOST:PORT")
    failed(capacity("--server", server.http, "--out", str(tmp_path)), "INVALID_OPTION", "--triton-metrics")
    (tmp_path / "file").write_text("")
    failed(capacity(*triton, "--out", str(tmp_path / "file")), "CANNOT_WRITE", "--out")
    failed(capacity(*triton, "--audio", str(tmp_path / "none"), "--out", str(tmp_path)), "NO_SPEECH", "--audio")


def test_a_server_that_is_not_there(tmp_path: Path):
    port = free_ports(1)[0]
    done = capacity(
        "--server", f"127.0.0.1:{port}", "--triton-metrics", "http://127.0.0.1:9/metrics", "--out", str(tmp_path)
    )
    failed(done, "SERVER_UNREACHABLE", str(port), "voiceforge serve")
    assert not list(tmp_path.iterdir())


def test_metrics_that_are_not_there_or_somebody_elses(server: Server, tmp_path: Path):
    triton, out = triton_metrics(server), ("--out", str(tmp_path))
    here = ("--server", server.http, *out)
    failed(capacity(*here, "--triton-metrics", "http://127.0.0.1:9/metrics"), "TRITON_METRICS_UNREACHABLE", "8002")
    swapped = capacity(*here, "--triton-metrics", f"{server.http}/metrics")
    failed(swapped, "TRITON_METRICS_UNREACHABLE", "has no nv_inference_exec_count")
    failed(capacity(*here, "--triton-metrics", triton, "--metrics", triton), "METRICS_UNREACHABLE", "--metrics")
    page = capacity(*here, "--triton-metrics", triton, "--metrics", f"{server.http}/")
    failed(page, "METRICS_UNREACHABLE", "something else than metrics")
    failed(capacity(*here, "--triton-metrics", triton, "--metrics", "nonsense"), "METRICS_UNREACHABLE")


def test_a_model_that_the_server_does_not_have(server: Server, tmp_path: Path):
    done = capacity(
        "--server", server.http, "--triton-metrics", triton_metrics(server), "--model", "large", "--out", str(tmp_path)
    )
    failed(done, "UNKNOWN_MODEL", "nano")


def test_a_server_that_demands_a_key_and_refuses_more_streams_than_it_takes(
    start_server: Callable[..., Server], folder: Path, tmp_path: Path
):
    server = start_server(api_keys="secret", max_connections="2")
    here = (
        "--server",
        server.http,
        "--triton-metrics",
        triton_metrics(server),
        "--audio",
        str(folder),
        "--out",
        str(tmp_path),
    )
    failed(capacity(*here), "UNAUTHORIZED", "--api-key")
    failed(capacity(*here, VOICEFORGE_API_KEY="wrong"), "UNAUTHORIZED")
    done = capacity(*here, "--ramp", "1,4,8", VOICEFORGE_API_KEY="secret")
    assert done.returncode in (0, VOID), done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [s["streams"] for s in report["steps"]] == [1, 4], "it does not go on when the server refuses"
    assert report["steps"][1]["heard"]["refusals"] == {"TOO_MANY_CONNECTIONS": 2}
    assert report["steps"][1]["front"]["refused"] == {"TOO_MANY_CONNECTIONS": 2}
    assert report["ended"] == "the server refused streams"
    assert report["streams_at_slo"] <= 1


@pytest.fixture
def refusing() -> Iterator[str]:
    """Something that answers every request with 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"error": {"code": "ENGINE_BUSY", "message": "the engine is 900 ms behind"}}).encode()
            self.send_response(503)
            self.send_header("Retry-After", "7")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_is_full_before_there_is_any_load(refusing: str, tmp_path: Path):
    done = capacity("--server", refusing, "--triton-metrics", "http://127.0.0.1:9/metrics", "--out", str(tmp_path))
    failed(done, "ENGINE_BUSY", "900 ms behind", "wait 7 s")


def running(server: Server, folder: Path, out: Path) -> subprocess.Popen[str]:
    """A ramp that has done its first step."""
    arguments = ("--server", server.http, "--triton-metrics", triton_metrics(server), "--audio", str(folder))
    process = subprocess.Popen(
        command(*arguments, "--ramp", "1,2,3,4,5,6", "--to-the-end", "--out", str(out)),
        cwd=ROOT, env=clean(), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr
    while line := process.stderr.readline():
        if re.match(r" +1 ", line):
            return process
    raise AssertionError("it ended before the first step was done")


def test_what_was_measured_until_ctrl_c_is_reported(server: Server, folder: Path, tmp_path: Path):
    process = running(server, folder, tmp_path)
    time.sleep(7)  # into the second step
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == INTERRUPTED, said
    assert "Traceback" not in said
    assert "interrupted" in said
    assert len(json.loads((tmp_path / "report.json").read_text())["steps"]) >= 1


def test_what_was_measured_until_the_server_died_is_reported(
    start_server: Callable[..., Server], folder: Path, tmp_path: Path
):
    server = start_server()
    process = running(server, folder, tmp_path)
    time.sleep(7)
    server.process.kill()
    said = process.communicate(timeout=90)[1]
    assert process.returncode == WRONG, said
    assert "Traceback" not in said
    assert "never retrieved" not in said
    assert re.search(r"^SERVER_GONE: .*stopped answering in the step with \d streams", said, re.MULTILINE), said
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["steps"]) >= 1
    assert "SERVER_GONE" in report["ended"]


# --- the table of metrics in docs/capacity.md ---------------------------------------------------------------------------

ROW = re.compile(r"^\| `(?P<name>[a-z_]+)(?P<labels>\{[\w, ]*\})?` \| (?P<where>[^|]+) \|", re.MULTILINE)
USED = re.compile(r'"((?:voiceforge|nv|process)_[a-z_]+)"')
ON_GPUS = "with a GPU"
"""What the embedded Triton does not tell."""
LATER = "when it happened"
"""Known from the start, without a sample."""


def documented() -> dict[str, tuple[set[str], str]]:
    """Labels, and who tells it, by name."""
    text = (ROOT / "docs/capacity.md").read_text()
    return {m["name"]: (set(re.findall(r"\w+", m["labels"] or "")), m["where"].strip()) for m in ROW.finditer(text)}


def test_the_documented_metrics_exist_with_their_labels(server: Server, measured: object):
    target = Target.of(server.http, triton_metrics(server), None, None, None)
    with Probe(target) as probe:
        reading: Reading = probe.read()
    table = documented()
    assert len(table) > 30
    for name, (labels, where) in table.items():
        if where.endswith(ON_GPUS):
            continue
        told = reading.triton if where.startswith("Triton") else reading.front
        samples = told.of(name) or told.of(f"{name}_count")
        if where.endswith(LATER):
            assert f"# TYPE {name} " in server.get("/metrics")[1]
        else:
            assert samples, f"{name} is documented, and nobody tells it"
        assert all({k for k, _ in sample} - {"server"} == labels for sample in samples), name


def test_all_that_the_command_uses_is_documented():
    used = {n for p in (ROOT / "frontend/capacity").glob("*.py") for n in USED.findall(p.read_text())}
    expressions = (ROOT / "frontend/capacity/advice.py").read_text()
    used |= set(re.findall(r"\b((?:voiceforge|process)_[a-z_]+)", expressions))
    names = {n.removesuffix("_bucket") for n in used}
    assert len(names) > 20
    assert names <= set(documented()), names - set(documented())
