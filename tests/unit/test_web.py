"""Addresses that clients name: only public ones are reached, whatever the name says a moment later."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import UnusableUrl
from frontend.server.web import MOST_REDIRECTS, Web, anywhere, is_public

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:0:0:0:0:f5ff:fffe",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("url", ["", "x", "ftp://a.example/", "file:///etc/passwd", "http://", "https:///x", "//a"])
def test_what_is_no_web_address_is_refused(url: str):
    with pytest.raises(UnusableUrl):
        Web(anywhere).check(url)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_before_any_look_up(address: str):
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(UnusableUrl, match="is not public"):
        Web().check(f"http://{host}:8000/x")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "localhost."])
async def test_other_ways_to_write_this_machine_are_refused_when_they_are_looked_up(host: str):
    web = Web()
    async with web.client() as client:
        with pytest.raises(UnusableUrl):
            await web.request(client, "GET", f"http://{host}/", {})


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_clear_error(text: str):
    for url in (text, f"http://{text}", f"http://a.example/{text}"):
        with contextlib.suppress(UnusableUrl):
            assert Web(anywhere).check(url).host


class Names:
    """Stands for the name service: each look-up of a name gets the next answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.asked: list[str] = []
        self._answers = iter(answers)

        async def look_up(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
            self.asked.append(host)
            return [(0, 0, 0, "", (next(self._answers), port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch):
    names = Names(monkeypatch, "93.184.215.14", "127.0.0.1")
    web = Web()
    async with web.client() as client:
        request = await web.request(client, "GET", "https://u:p@rebinding.example:8443/a?b=c", {})
    assert str(request.url) == "https://u:p@93.184.215.14:8443/a?b=c"
    assert request.headers["host"] == "rebinding.example:8443"
    assert request.extensions["sni_hostname"] == "rebinding.example"
    assert names.asked == ["rebinding.example"], "a second look-up could answer differently"


async def test_a_name_that_answers_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch):
    Names(monkeypatch, "169.254.169.254")
    web = Web()
    async with web.client() as client:
        with pytest.raises(UnusableUrl, match=r"'metadata\.example' is not public"):
            await web.request(client, "GET", "http://metadata.example/", {})


@asynccontextmanager
async def site(*answers: bytes) -> AsyncIterator[str]:
    """A server on this machine that gives one answer after the other, a connection each."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


FOUND = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\naudio"


async def fetched(web: Web, url: str) -> bytes:
    async with web.get(url) as response:
        return b"".join([piece async for piece in response.aiter_raw()])


async def test_redirects_are_followed():
    async with site(redirect("/there"), redirect("?x=1"), FOUND) as url:
        assert await fetched(Web(anywhere), url) == b"audio"


async def test_a_redirect_to_an_address_that_is_not_allowed_is_refused():
    async with site(redirect("http://127.0.0.2:9/secret")) as url:
        with pytest.raises(UnusableUrl, match=r"'127\.0\.0\.2' is not public"):
            await fetched(Web(lambda address: str(address) == "127.0.0.1"), url)


async def test_redirects_do_not_go_on_for_ever():
    async with site(*[redirect("/again")] * (MOST_REDIRECTS + 1)) as url:
        with pytest.raises(UnusableUrl, match="more than 5 redirects"):
            await fetched(Web(anywhere), url)


async def test_an_answer_that_is_no_recording_is_said():
    async with site(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as url:
        with pytest.raises(UnusableUrl, match="answered 404"):
            await fetched(Web(anywhere), url)


async def test_nobody_there_is_said():
    with pytest.raises(UnusableUrl, match="could not be fetched"):
        await fetched(Web(anywhere), "http://127.0.0.1:9/x")
