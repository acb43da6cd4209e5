"""Deepgram's own clients against the real server, with nothing changed but host and key."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import async_playwright

from tests.conftest import Server
from tests.contract.conftest import HERE, TRAIN, WINDOW, Speech, node

Run = Callable[..., Any]
KNOWN = {"Results", "Metadata", "SpeechStarted", "UtteranceEnd", "Error", "ConfigureSuccess"}


def finals(messages: list[dict[str, Any]]) -> list[str]:
    told = [m["channel"]["alternatives"][0]["transcript"] for m in messages if m["type"] == "Results" and m["is_final"]]
    return [text for text in told if text]


def check(messages: list[dict[str, Any]], expected: list[str]) -> None:
    """One stream: partials, finals as expected, the second because of Finalize, Metadata at the end."""
    assert {m["type"] for m in messages} <= KNOWN
    results = [m for m in messages if m["type"] == "Results"]
    assert finals(messages) == expected
    assert any(not m["is_final"] and m["channel"]["alternatives"][0]["transcript"] for m in results)
    assert all(m["speech_final"] for m in results if m["is_final"])
    assert [m["from_finalize"] for m in results if m["is_final"]] == [False, True]
    assert messages[0]["type"] == "SpeechStarted"
    assert messages[-1]["type"] == "Metadata"
    request_ids = {m["metadata"]["request_id"] for m in results} | {messages[-1]["request_id"]}
    assert len(request_ids) == 1


def check_recording(told: dict[str, Any]) -> None:
    alternative = told["results"]["channels"][0]["alternatives"][0]
    assert alternative["transcript"] == f"{TRAIN} {WINDOW}"
    assert alternative["words"][0]["punctuated_word"] == "The"
    assert [u["transcript"] for u in told["results"]["utterances"]] == [TRAIN, WINDOW]
    assert [s["text"] for p in alternative["paragraphs"]["paragraphs"] for s in p["sentences"]] == [TRAIN, WINDOW]
    assert told["metadata"]["channels"] == 1


@pytest.mark.parametrize("do", ["live", "live_async"])
def test_python_7_streams(run: Run, do: str):
    check(run("python_v7", do)["messages"], [TRAIN, WINDOW])


def test_python_4_streams(run: Run):
    check(run("python_v4", "live")["messages"], [TRAIN, WINDOW])


def test_javascript_5_streams(run: Run):
    told = run("javascript_v5", "live")
    check(told["messages"], [TRAIN.replace("London", "Paris"), WINDOW])
    assert told["closes"] == [1000]


def test_javascript_4_streams(run: Run):
    told = run("javascript_v4", "live")
    check(told["messages"], [TRAIN.replace("three", "3"), WINDOW])
    assert told["closes"] == [1000]
    assert told["errors"] == []
    assert [m["type"] for m in told["unhandled"]] == ["ConfigureSuccess"]


def test_javascript_5_connects_again_after_a_stream_that_was_ended(run: Run):
    told = run("javascript_v5", "reconnect")
    assert told["opened"] == 2
    assert told["closes"] == [1011, 1000]
    assert finals(told["messages"]) == [TRAIN.replace("London", "Paris"), WINDOW]


@pytest.mark.parametrize("client", ["python_v7", "python_v4", "javascript_v5", "javascript_v4"])
def test_recordings(run: Run, client: str):
    told = run(client, "recorded")
    check_recording(told["sent"])
    check_recording(told["fetched"])


@pytest.mark.parametrize("client", ["python_v7", "python_v4", "javascript_v5", "javascript_v4"])
def test_a_wrong_key_is_refused_as_the_client_expects(run: Run, client: str):
    told = run(client, "wrong_key", key="wrong")
    assert told["recorded"] == [401, "INVALID_AUTH"]
    assert told["live"] in (401, True) or "401" in str(told["live"])


@pytest.mark.parametrize(("client", "library"), [("v5", "dist/browser/index.global.js"), ("v4", "dist/umd/deepgram.js")])
async def test_javascript_in_a_browser(contract_server: Server, speech: Speech, client: str, library: str):
    node()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    audio = base64.b64encode(speech.audio.read_bytes()).decode()
    task = {"host": f"127.0.0.1:{contract_server.port}", "key": "secret", "audio": audio}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        await page.goto(contract_server.http)
        await page.add_script_tag(path=HERE / "node_modules" / f"deepgram-sdk-{client}" / library)
        script = (HERE / "clients" / f"browser_{client}.js").read_text()
        told = await page.evaluate(script, task)
        await browser.close()
    check(told["messages"], [TRAIN, WINDOW])
    assert told["closes"] == [1000]
