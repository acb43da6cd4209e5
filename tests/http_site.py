"""A web server on this machine for tests: gives files, and takes what is sent to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Site:
    """`files` by path; `received` are the JSON bodies posted, with their headers in lower case; `refuse` so many first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.received: list[tuple[dict[str, str], Any]] = []
        self.refuse = 0
        self.url = ""

    def bodies(self) -> list[Any]:
        return [body for _, body in self.received]

    def wait(self, n: int, timeout_s: float = 60) -> list[Any]:
        """The first `n` bodies."""
        deadline = time.monotonic() + timeout_s
        while len(self.received) < n:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.received)} of {n} bodies came: {self.bodies()}")
            time.sleep(0.02)
        return self.bodies()[:n]


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200 if self.path in site.files else 404, site.files.get(self.path, b""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if site.refuse:
                site.refuse -= 1
                self._answer(503)
                return
            site.received.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
            self._answer(204)

        do_PUT = do_POST  # noqa: N815 - the name is http.server's

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
