"""HTTP to addresses that clients name: only public ones, and each request goes to the very address that was checked.

A name is looked up once; the connection is made to the address found, with the name in `Host` and in TLS. So a name that
answers differently a moment later (DNS rebinding) gains nothing, and redirects are looked at like any other address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import cached_property

import httpx

from frontend.errors import UnusableUrl

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
TIMEOUT = httpx.Timeout(10.0, read=30.0)
"""Seconds: to connect or write, and between two pieces of an answer."""


def is_public(address: IPAddress) -> bool:
    """Also of an IPv4 address within an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
    return address.is_global and not address.is_multicast


def anywhere(_: IPAddress) -> bool:
    return True


class Web:
    """Requests go where `allowed` lets them."""

    def __init__(self, allowed: Callable[[IPAddress], bool] = is_public) -> None:
        self._allowed = allowed

    def check(self, url: str) -> httpx.URL:
        """What can be said without looking the name up. Raises `UnusableUrl`."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            raise UnusableUrl(f"{url[:100]!r} is not a URL; send one that begins with https:// or http://") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UnusableUrl(f"{url[:100]!r} is not a web address; send one that begins with https:// or http://")
        try:
            address = ipaddress.ip_address(parsed.host)
        except ValueError:
            return parsed
        self._check_address(address, parsed.host)
        return parsed

    def client(self) -> httpx.AsyncClient:
        """For requests made by `request`; one host's only, since it keeps connections by address and not by name."""
        return httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=TIMEOUT)

    async def request(
        self, client: httpx.AsyncClient, method: str, url: str, headers: dict[str, str], content: bytes = b""
    ) -> httpx.Request:
        """A request to the address that `url` has now. Raises `UnusableUrl`."""
        parsed = self.check(url)
        address = await self._look_up(parsed)
        return client.build_request(
            method,
            parsed.copy_with(host=str(address)),
            headers={**headers, "Host": parsed.netloc.decode()},
            content=content,
            extensions={"sni_hostname": parsed.host},
        )

    @asynccontextmanager
    async def get(self, url: str) -> AsyncGenerator[httpx.Response]:
        """The answer's head; its body is read by `aiter_raw`. Raises `UnusableUrl`, also where a redirect leads there."""
        for _ in range(MOST_REDIRECTS + 1):
            async with self.client() as client:
                try:
                    request = await self.request(client, "GET", url, {"Accept-Encoding": "identity"})
                    response = await client.send(request, stream=True)
                except httpx.HTTPError as error:
                    raise UnusableUrl(f"{url[:100]!r} could not be fetched: {error or type(error).__name__}") from error
                try:
                    location = response.headers.get("location")
                    if response.status_code in REDIRECTS and location:
                        url = str(httpx.URL(url).join(location))
                        continue
                    if response.status_code != 200:
                        raise UnusableUrl(f"{url[:100]!r} answered {response.status_code}; send the URL of a recording")
                    yield response
                    return
                finally:
                    await response.aclose()
        raise UnusableUrl(f"more than {MOST_REDIRECTS} redirects; send the URL that they lead to")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Loading the certificates takes 20 ms."""
        return httpx.create_ssl_context(trust_env=False)

    async def _look_up(self, url: httpx.URL) -> IPAddress:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnusableUrl(f"the host {url.host[:100]!r} is not found; check its name") from error
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        for address in addresses:
            self._check_address(address, url.host)
        return addresses[0]

    def _check_address(self, address: IPAddress, host: str) -> None:
        if not self._allowed(address):
            raise UnusableUrl(
                f"the host {host[:100]!r} is not public; send a public one, or set VOICEFORGE_ALLOW_PRIVATE_URLS=true"
            )
