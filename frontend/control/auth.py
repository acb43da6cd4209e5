"""API keys from the settings; without any, only clients on this machine."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from frontend.errors import Unauthorized


class Authenticator:
    """Keys are kept as SHA-256 and compared in constant time."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(k.encode()).digest() for k in keys]

    @property
    def open_to_loopback(self) -> bool:
        return not self._digests

    def check(self, key: str | None, *, peer: str, origin: str | None, host: str | None) -> None:
        """Raises `Unauthorized`, saying what to send. `peer` is the client's address, `origin` and `host` its headers."""
        if self.open_to_loopback:
            if not _is_loopback(peer):
                raise Unauthorized(
                    "no API keys are set, so only clients on this machine are served; set VOICEFORGE_API_KEYS"
                )
            if not _is_local_name(host):
                raise Unauthorized("without API keys this server is reached as localhost only; set VOICEFORGE_API_KEYS")
            if origin is not None and _site(origin) != host:
                raise Unauthorized(
                    "a page of another site may not use this server without an API key; set VOICEFORGE_API_KEYS"
                )
            return
        if not key:
            raise Unauthorized("an API key is needed: the header Authorization: Bearer KEY (or Token KEY), or ?api_key=KEY")
        digest = hashlib.sha256(key.encode()).digest()
        if not any([hmac.compare_digest(digest, known) for known in self._digests]):  # noqa: C419 - all of them, always
            raise Unauthorized("this API key is not known")


def _site(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # a bracket that does not close
        return None


def _is_local_name(host: str | None) -> bool:
    """Guards against pages that make their own name point to this machine (DNS rebinding)."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
