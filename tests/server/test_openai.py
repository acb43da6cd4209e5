"""OpenAI's endpoints when things go wrong. The engine is scripted, so that it waits and fails where a test wants it to;
the real one is under tests/contract."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from frontend.app import Running, listening
from frontend.control.auth import Authenticator
from frontend.errors import EngineRejected
from frontend.inference.base import Pcm
from frontend.inference.fake import FakeEngine
from frontend.observability.metrics import Metrics
from frontend.protocols.native import NativeAdapter
from frontend.server.gateway import Gateway
from frontend.server.sessions import Services
from frontend.settings import Settings
from frontend.speech.events import RunAsr
from tests.conftest import RATE, silence
from tests.unit.openai_schema import validate

PATH = "/v1/audio/transcriptions"
STREAM = {"model": "whisper-1", "stream": "true"}


@pytest.fixture(autouse=True)
def own_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Servers of other tests make files meanwhile, which `idle` would take for ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@asynccontextmanager
async def serving(engine: FakeEngine, **settings: Any) -> AsyncIterator[Running]:
    services = Services(engine, Metrics(), Settings(port=0, model=["nano"], **settings), "nano")
    gateway = Gateway(services, Authenticator(services.settings.keys), [NativeAdapter()])
    try:
        async with listening(services.settings, services, gateway, None) as running:
            yield running
    finally:
        await services.decoders.close()


@asynccontextmanager
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as one:
        yield one


def bursts(n: int) -> dict[str, Any]:
    """A recording of `n` utterances, a second each and a second apart, as a form's file."""
    noise = np.random.default_rng(1).integers(-8000, 8000, RATE).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([noise, silence(1.0)] * n), RATE, format="WAV")
    return {"files": {"file": ("speech.wav", file.getvalue())}}


def counting(request: RunAsr, _: Pcm) -> str:
    return f"Second {request.start // RATE}."


async def until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def files() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("voiceforge-*"))


def idle(running: Running, engine: FakeEngine, before: set[Path]) -> bool:
    """No slot, no file and no stream of the engine is held, but for the one that was made to see whether it can be."""
    return running.gateway.slots.used == 0 and engine.open_streams <= 1 and files() <= before


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]


def code(response: httpx.Response) -> tuple[int, str]:
    validate(response.json(), "error")
    assert response.headers["x-request-id"].startswith("req_")
    return response.status_code, response.json()["error"]["code"]


async def test_text_is_told_while_the_recording_is_still_being_decoded():
    engine = FakeEngine(counting)

    def script(request: RunAsr, audio: Pcm) -> str:
        engine.away = request.start > RATE  # nothing more until the client has got the first text
        return counting(request, audio)

    engine.script = script
    async with (
        serving(engine) as running,
        client(running) as c,
        c.stream("POST", PATH, data=STREAM, **bursts(60)) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        first = await anext(lines)
        assert json.loads(first.removeprefix("data: "))["delta"] == "Second 0."
        assert running.services.metrics.audio._value.get() < 119
        engine.script, engine.away = counting, False
        told = events("\n".join([first, *[line async for line in lines]]))
    assert "".join(e["delta"] for e in told[:-1]) == told[-1]["text"]
    assert told[-1]["usage"] == {"type": "duration", "seconds": 120.0}
    assert len(told) > 10


@pytest.mark.parametrize("form", [STREAM, {"model": "whisper-1"}], ids=["stream", "whole"])
async def test_a_client_that_hangs_up_ends_the_work(form: dict[str, str]):
    engine, before = FakeEngine(), files()
    async with serving(engine) as running:
        engine.away = True
        async with client(running) as c:
            asking = asyncio.create_task(c.post(PATH, data=form, **bursts(3)))
            await until(lambda: engine.open_streams == 3)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: idle(running, engine, before))


async def test_a_client_that_hangs_up_while_it_sends():
    engine, before = FakeEngine(), files()
    async with serving(engine) as running:
        head = b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nRIFF"
        _, writer = await post(running, b"Content-Length: 1000", head)
        await until(lambda: files() > before)
        writer.close()
        await until(lambda: idle(running, engine, before))


async def test_all_connections_in_use():
    engine = FakeEngine()
    async with serving(engine, max_connections=1) as running, client(running) as c:
        engine.away = True
        asking = asyncio.create_task(c.post(PATH, data=STREAM, **bursts(1)))
        await until(lambda: engine.open_streams == 3)
        refused = await c.post(PATH, data=STREAM, **bursts(1))
        assert code(refused) == (503, "too_many_connections")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await c.get("/v1/models")).status_code == 200
        engine.away = False
        assert (await asking).status_code == 200
        assert (await c.post(PATH, data=STREAM, **bursts(1))).status_code == 200


async def test_a_server_that_shuts_down_takes_nothing_new():
    async with serving(FakeEngine()) as running, client(running) as c:
        running.gateway.draining = True
        refused = await c.post(PATH, data=STREAM, **bursts(1))
        assert code(refused) == (503, "shutting_down")
        assert int(refused.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("form", "status"), [(STREAM, 200), ({"model": "whisper-1"}, 500)], ids=["stream", "whole"])
async def test_an_engine_that_fails_in_the_middle(form: dict[str, str], status: int):
    def script(request: RunAsr, audio: Pcm) -> str:
        if request.start > 2 * RATE:
            raise EngineRejected("it would not")
        return counting(request, audio)

    engine, before = FakeEngine(script), files()
    async with serving(engine) as running, client(running) as c:
        response = await c.post(PATH, data=form, **bursts(3))
        assert response.status_code == status
        if status == 200:
            *deltas, last = events(response.text)
            assert deltas[0] == {"type": "transcript.text.delta", "delta": "Second 0."}
        else:
            last = response.json()
        validate(last, "error")
        assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "engine_rejected")
        await until(lambda: idle(running, engine, before))


async def test_a_client_that_does_not_read_loses_its_stream():
    engine, before = FakeEngine(lambda *_: "x" * 4_000_000), files()
    async with serving(engine, slow_client_s=0.5) as running:
        form = httpx.Request("POST", running.url, data=STREAM, **bursts(5))
        headers = f"Content-Length: {form.headers['content-length']}".encode()
        _, writer = await post(running, headers, form.read(), form.headers["content-type"])
        await until(lambda: running.services.metrics.errors.labels("SLOW_CLIENT")._value.get() == 1)
        await until(lambda: idle(running, engine, before))
        writer.close()


# --- uploads that are refused -------------------------------------------------------------------------------------


async def post(
    running: Running, headers: bytes, body: bytes, content_type: str = "multipart/form-data; boundary=b"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request by hand, of which perhaps not everything is sent."""
    port = int(running.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n".encode()
    writer.write(head + headers + b"\r\n\r\n" + body)
    await writer.drain()
    return reader, writer


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    assert "connection: close" in head
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def test_an_announced_upload_that_is_too_large_is_refused_before_it_comes():
    async with serving(FakeEngine(), max_upload_bytes=10_000) as running:
        reader, writer = await post(running, b"Content-Length: 99999999", b"--b\r\n")
        status, body = await answer(reader)
        assert (status, body["error"]["code"]) == (413, "message_too_big")
        assert running.gateway.slots.used == 0
        writer.close()


async def test_an_upload_that_grows_too_large_is_refused_while_it_comes():
    async with serving(FakeEngine(), max_upload_bytes=10_000) as running:
        head = b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\n"
        reader, writer = await post(running, b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(head), head))
        for _ in range(3):
            writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
        status, body = await answer(reader)
        assert (status, body["error"]["code"]) == (413, "message_too_big")
        writer.close()


async def test_a_key_that_is_wrong_is_refused_before_the_upload():
    async with serving(FakeEngine(), api_keys="secret") as running:
        reader, writer = await post(running, b"Authorization: Bearer wrong\r\nContent-Length: 99999999", b"--b\r\n")
        status, body = await answer(reader)
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        writer.close()


async def test_an_upload_that_takes_too_long():
    async with serving(FakeEngine(), upload_timeout_s=0.3) as running:
        reader, writer = await post(running, b"Content-Length: 1000", b"--b\r\n")
        status, body = await answer(reader)
        assert (status, body["error"]["code"]) == (408, "no_data")
        writer.close()


@pytest.mark.parametrize(
    ("request_", "expected", "param"),
    [
        ({"json": {"model": "whisper-1"}}, (400, "invalid_message"), None),
        ({"data": {"model": "whisper-1"}, "files": {"sound": b"x"}}, (400, "invalid_config"), "file"),
        ({"files": [("file", b"x"), ("file", b"y")]}, (400, "invalid_config"), "file"),
        ({"data": {"temperature": "9"}, "files": {"file": b"x"}}, (400, "invalid_config"), "temperature"),
        ({"data": {"prompt": "x" * 70_000}, "files": {"file": b"x"}}, (413, "message_too_big"), None),
        ({"files": {"file": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"}}, (400, "invalid_audio_format"), "file"),
    ],
)
async def test_forms_that_are_refused(request_: dict[str, Any], expected: tuple[int, str], param: str | None):
    async with serving(FakeEngine()) as running, client(running) as c:
        response = await c.post(PATH, **request_)
        assert code(response) == expected
        assert response.json()["error"]["param"] == param


async def test_what_is_not_in_effect_is_named_also_when_refused():
    async with serving(FakeEngine()) as running, client(running) as c:
        response = await c.post(PATH, data={"prompt": "x", "hotwords": "y"}, files={"file": b"no audio"})
        assert response.status_code == 400
        assert response.headers["x-voiceforge-not-in-effect"] == "prompt, hotwords"


async def test_translations_where_the_model_translates():
    async with serving(FakeEngine(counting)) as running, client(running) as c:
        form = {"model": "whisper-1", "response_format": "verbose_json"}
        told = (await c.post("/v1/audio/translations", data=form, **bursts(1))).json()
        validate(told, "verbose_json")
        assert (told["task"], told["language"], told["text"]) == ("translate", "english", "Second 0.")


async def test_models_need_a_key():
    async with serving(FakeEngine(), api_keys="secret") as running, client(running) as c:
        assert code(await c.get("/v1/models")) == (401, "invalid_api_key")
        assert code(await c.get("/v1/models/nano")) == (401, "invalid_api_key")
