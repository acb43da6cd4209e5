"""The playground in a real browser, with a wav file for a microphone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import Page, async_playwright, expect

from tests.conftest import Server, silence

WAIT_MS = 60_000


@pytest.fixture
def microphone(speak, tmp_path: Path) -> Path:
    path = tmp_path / "microphone.wav"
    parts = [silence(1.0)]
    for text in ("The train to London leaves at half past three.", "Please open the window in the kitchen."):
        parts += [speak(text).audio, silence(1.2)]
    soundfile.write(path, np.concatenate(parts), 16000)
    return path


@pytest.fixture
async def page(microphone: Path) -> AsyncIterator[Page]:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no Chromium is installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browser_path,
            args=[
                "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}%noloop",
            ],
        )  # fmt: skip
        page = await browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        yield page
        await browser.close()
    assert [p for p in problems if "WebSocket connection" not in p] == []


async def test_speech_at_the_microphone_appears_while_it_is_spoken_and_settles(server: Server, page: Page):
    await page.goto(server.http)
    await page.click("#record")
    await expect(page.locator("#interim")).not_to_be_empty(timeout=WAIT_MS)
    await expect(page.locator(".final")).to_have_count(2, timeout=WAIT_MS)
    await expect(page.locator("#model")).to_have_text("nano")
    painted = (
        "el => { const d = el.getContext('2d').getImageData(0, 0, el.width, el.height).data; return d.some(v => v > 0); }"
    )
    assert await page.locator("#meter").evaluate(painted)
    await page.click("#record")
    await expect(page.locator("#status")).to_have_text("Not connected", timeout=WAIT_MS)
    await expect(page.locator("#error")).to_be_hidden()
    await expect(page.locator("#interim")).to_be_empty()
    words = await page.locator(".final span span").all()
    assert "confidence" in (await words[0].get_attribute("title") or "")


async def test_a_chosen_file_is_transcribed(server: Server, page: Page, microphone: Path):
    await page.goto(server.http)
    await page.set_input_files("#file", microphone)
    await expect(page.locator(".final")).to_have_count(2, timeout=WAIT_MS)
    await expect(page.locator("#status")).to_have_text("Not connected", timeout=WAIT_MS)


async def test_a_language_that_the_model_does_not_know_is_said(server: Server, page: Page, microphone: Path):
    await page.goto(server.http)
    await page.click("summary")
    await page.fill("#language", "fr")
    await page.set_input_files("#file", microphone)
    await expect(page.locator("#error")).to_contain_text("English-only", timeout=WAIT_MS)


async def test_the_language_is_found_and_told(multilingual_server: Server, page: Page, speak, tmp_path: Path):
    path = tmp_path / "spoken.wav"
    parts = [silence(0.5), speak("Mi hermana vive en Madrid.", "es").audio, silence(1.2)]
    soundfile.write(path, np.concatenate(parts), 16000)
    await page.goto(multilingual_server.http)
    await page.click("summary")
    await page.fill("#language", "auto")
    await page.set_input_files("#file", path)
    await expect(page.locator(".final")).to_have_count(1, timeout=WAIT_MS)
    await expect(page.locator("#heard")).to_have_text("es")
    await expect(page.locator("#model")).to_have_text("nano-multi")


async def test_a_file_that_is_no_audio_is_said(server: Server, page: Page, tmp_path: Path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam")
    await page.goto(server.http)
    await page.set_input_files("#file", path)
    await expect(page.locator("#error")).to_contain_text("letter.txt is not audio", timeout=WAIT_MS)


async def test_a_refused_connection_is_said(start_server, page: Page, microphone: Path):
    server = start_server(api_keys="secret")
    await page.goto(server.http)
    await page.set_input_files("#file", microphone)
    await expect(page.locator("#error")).to_contain_text("refused", timeout=WAIT_MS)
    await page.click("summary")
    await page.fill("#key", "secret")
    await page.set_input_files("#file", [])
    await page.set_input_files("#file", microphone)
    await expect(page.locator(".final")).to_have_count(2, timeout=WAIT_MS)
