"""The embedded Triton comes back when it dies, goes when its parent goes, and says why it will not start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from export.repository import NANO, export_whisper
from frontend.embedded import EmbeddedTriton, TritonStartError, layout
from frontend.embedded.layout import SHM, SHM_PREFIX, free_ports
from frontend.embedded.supervisor import Timing
from frontend.inference.triton import Patience
from frontend.speech.events import Decode, RunAsr
from tests.conftest import ROOT
from tests.engine.client import final
from tests.export.checkpoints import killed_half_way


def regions(owner: int, which: EmbeddedTriton | None = None) -> list[str]:
    """Shared memory of the servers of a process, or of one of them."""
    own = f"{id(which):x}_" if which else ""
    return sorted(p.name for p in SHM.glob(f"{SHM_PREFIX}{owner}_{own}*"))


def stubs(server: EmbeddedTriton) -> dict[str, psutil.Process]:
    """Python stubs by the model they run."""
    assert server.pid
    children = psutil.Process(server.pid).children()
    models = ("silero_vad", "whisper_nano_encoder", "whisper_nano")
    return {next(m for m in models if f"/{m}/" in " ".join(c.cmdline())): c for c in children}


async def until(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Polls; returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"{what}: not within {timeout_s:.0f} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- it comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["server", "whisper_nano", "whisper_nano_encoder", "silero_vad"])
async def test_after_a_kill_it_is_back_on_the_same_address_and_no_final_is_lost(
    victim: str, start, connect, spoken: list[np.ndarray]
):
    server = await start()
    engine = connect(server)
    address, audio = server.address, spoken[0]
    expected = await final(engine, audio)
    stream, heard = engine.asr_stream("nano", "en"), engine.vad_stream()
    half = len(audio) // 2
    await stream.decode(RunAsr(Decode.PARTIAL, 0, 0, half), audio[:half])
    await heard.probabilities(audio[: 20 * 512])

    old = stubs(server)
    killed = server.pid if victim == "server" else old[victim].pid
    os.kill(killed, signal.SIGKILL)
    began = time.monotonic()
    found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(audio)), audio)
    assert time.monotonic() - began < 30
    assert (found.text, found.tokens) == (expected.text, expected.tokens)
    assert [(w.text, w.start, w.end) for w in found.words] == [(w.text, w.start, w.end) for w in expected.words]
    assert len(await heard.probabilities(audio[20 * 512 : 24 * 512])) == 4

    await until(lambda: server.restarts == 1 and server.healthy, 20, "restart")
    assert server.address == address
    assert gone(killed)
    assert all(gone(p.pid) for p in old.values())  # no stub of the old server stays behind
    assert len(stubs(server)) == 3
    await stream.close()
    await heard.close()


@pytest.mark.parametrize("victim", ["server", "whisper_nano", "whisper_nano_encoder", "silero_vad"])
async def test_what_hangs_is_replaced_long_before_the_canary_times_out(victim: str, start, connect, spoken):
    """Stopped, it neither dies nor answers, and uses no CPU."""
    server = await start(timing=Timing(interval=0.3, canary=3600, stop=2))
    os.kill(server.pid if victim == "server" else stubs(server)[victim].pid, signal.SIGSTOP)
    await until(lambda: server.restarts == 1 and server.healthy, 40, "restart")
    assert (await final(connect(server), spoken[0])).tokens


async def test_what_is_busy_for_long_is_not_replaced(start, connect, spoken):
    """Much longer than `still`: it works."""
    server = await start(timing=Timing(interval=0.1, still=0.2))
    engine = connect(server, Patience(call=60))
    found = await asyncio.gather(*(final(engine, audio) for audio in spoken * 40))
    assert all(h.tokens for h in found)
    assert server.restarts == 0


async def test_it_comes_back_within_seconds_again_and_again_when_nobody_asks(start):
    server = await start()
    for n in (1, 2, 3):
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not server.healthy, 3, "noticing")
        await until(lambda n=n: server.restarts == n and server.healthy, 15, f"restart {n}")
    assert len(regions(os.getpid(), server)) == 3


# --- it goes ------------------------------------------------------------------------------------------------------


async def test_stop_leaves_no_process_no_shared_memory_and_no_folder(start):
    server = await start()
    pids = [server.pid, *(p.pid for p in stubs(server).values())]
    folder = Path(server._folder.name)
    assert len(pids) == 4
    assert regions(os.getpid(), server)
    await server.stop()
    assert all(gone(p) for p in pids)
    assert regions(os.getpid(), server) == []
    assert not folder.exists()
    assert not server.healthy


async def test_stop_after_a_stub_died_still_leaves_nothing(start):
    server = await start(timing=Timing(interval=3600, stop=3))
    pids = [server.pid, *(p.pid for p in stubs(server).values())]
    os.kill(pids[-1], signal.SIGKILL)
    await server.stop()
    assert all(gone(p) for p in pids)
    assert regions(os.getpid(), server) == []


async def test_stopping_one_server_does_not_disturb_another_of_the_same_process(start, connect, spoken):
    first, second = await start(), await start()
    engine = connect(first)
    await second.stop()
    found = await asyncio.gather(*(final(engine, audio) for audio in spoken))
    assert all(h.tokens for h in found)
    assert first.restarts == 0


PARENT = """
import asyncio, sys
from pathlib import Path
import psutil
from frontend.app import canary
from frontend.embedded import EmbeddedTriton

async def main():
    server = EmbeddedTriton(Path(sys.argv[1]), canary)
    await server.start()
    print(server.pid, *(c.pid for c in psutil.Process(server.pid).children()), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("hanging", [None, "silero_vad"])
async def test_a_parent_killed_outright_takes_the_server_and_its_stubs_along(hanging: str | None, repository: Path, start):
    """Several at once: a stub may be caught holding a lock of the server's; and one that hangs must go as well."""
    parents = [
        subprocess.Popen([sys.executable, "-c", PARENT, str(repository)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(1 if hanging else 3)
    ]
    below: list[int] = []
    try:
        for parent in parents:
            assert parent.stdout
            pids = [int(p) for p in (await asyncio.to_thread(parent.stdout.readline)).split()]
            assert len(pids) == 4
            assert regions(parent.pid)
            below += pids
        if hanging:
            os.kill(next(p for p in below if f"/{hanging}/" in " ".join(psutil.Process(p).cmdline())), signal.SIGSTOP)
        for parent in parents:
            parent.kill()
            parent.wait()
        await until(lambda: all(gone(p) for p in below), 10, "the end of server and stubs")
    finally:
        for parent in parents:
            parent.kill()
            parent.communicate()
        left = [p for p in below if not gone(p)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    await start()
    assert [r for p in parents for r in regions(p.pid)] == []  # what they could not clean up, the next start does


# --- it does not start --------------------------------------------------------------------------------------------


@pytest.fixture
def broken(repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository that a test may spoil."""
    return shutil.copytree(repository, tmp_path / "models")


async def test_a_model_file_of_garbage_is_told_in_tritons_words_and_nothing_is_left_behind(broken: Path, start):
    def servers() -> list[int]:
        return [c.pid for c in psutil.Process().children(recursive=True) if c.name().startswith("triton")]

    before = servers()
    (broken / "silero_vad" / "1" / "model.onnx").write_bytes(b"this is no protobuf")
    with pytest.raises(TritonStartError, match=r"silero_vad") as caught:
        await start(broken)
    assert "Protobuf parsing failed" in str(caught.value) or "INVALID_PROTOBUF" in str(caught.value)
    assert servers() == before


async def test_a_config_error_is_told_in_tritons_words(broken: Path, start):
    with (broken / "whisper_nano" / "config.pbtxt").open("a") as file:
        file.write('\nno_such_field: "x"\n')
    with pytest.raises(TritonStartError, match="no_such_field"):
        await start(broken)


async def test_a_model_that_python_cannot_load_shows_its_own_error(broken: Path, start):
    (broken / "whisper_nano" / "1" / "whisper_engine" / "windows.py").write_text("import no_such_module_of_ours")
    with pytest.raises(TritonStartError, match="no_such_module_of_ours"):
        await start(broken)


async def test_a_port_in_use_is_named(start):
    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", ports[1])), pytest.raises(TritonStartError, match=str(ports[1])):
        await start(ports=tuple(ports))


async def test_given_ports_are_used(start):
    http, grpc, metrics = free_ports(3)
    server = await start(ports=(http, grpc, metrics))
    assert server.address == f"127.0.0.1:{grpc}"
    assert server.metrics_url == f"http://127.0.0.1:{metrics}/metrics"
    listening = {
        (c.laddr.ip.removeprefix("::ffff:"), c.laddr.port)
        for c in psutil.Process(server.pid).net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", p) for p in (http, grpc, metrics)}  # nothing on any other address


async def test_a_repository_that_is_not_there_is_named(start, tmp_path: Path):
    with pytest.raises(TritonStartError, match="no-such-folder"):
        await start(tmp_path / "no-such-folder")


async def test_a_python_without_a_stub_is_told_which_there_are(start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layout, "PYTHON", "3.7")
    with pytest.raises(TritonStartError, match=r"no Python backend for Python 3\.7 \(it has 3\.8, .*3\.11, 3\.12"):
        await start()


async def test_what_an_interrupted_export_left_behind_does_not_keep_it_from_starting(
    repository: Path, tmp_path: Path, start, connect, spoken: list[np.ndarray]
):
    """Triton looks into every folder of the repository."""
    folder = shutil.copytree(repository, tmp_path / "models")
    await asyncio.to_thread(killed_half_way, folder)
    server = await start(folder)
    engine = connect(server)
    assert [m.name for m in await engine.models()] == ["nano"]
    assert (await final(engine, spoken[0])).tokens


async def test_a_second_whisper_beside_the_first_is_served_too(repository: Path, tmp_path: Path, start, connect, spoken):
    folder = shutil.copytree(repository, tmp_path / "models")
    export_whisper(str(NANO), folder, name="small", precision="int8")
    server = await start(folder)
    engine = connect(server)
    assert [m.name for m in await engine.models()] == ["nano", "small"]
    stream = engine.asr_stream("small", "en")
    found = await stream.decode(RunAsr(Decode.FINAL, 0, 0, len(spoken[0])), spoken[0])
    await stream.close()
    assert found.tokens
