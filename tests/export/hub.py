"""A small server on loopback that speaks as much of the Hugging Face hub as a download needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """One repository. What it publishes about files is computed from `files`; `served` may differ from it."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo, self.files, self.served = repo, dict(files), dict(files)
        self.commit = hashlib.sha1(b"".join(files[n] for n in sorted(files))).hexdigest()
        self.cut: dict[str, int] = {}
        """File name to the number of bytes after which the connection drops, once."""
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and Range header, in order."""
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def publish(self, name: str, content: bytes) -> None:
        self.files[name] = self.served[name] = content

    def withdraw(self, name: str) -> None:
        del self.files[name], self.served[name]

    def etag(self, name: str) -> str:
        content = self.files[name]
        return hashlib.sha256(content).hexdigest() if _is_lfs(name) else git_blob(content)

    def siblings(self, *, blobs: bool) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for name, content in self.files.items():
            one: dict[str, Any] = {"rfilename": name}
            if blobs:
                one |= {"size": len(content), "blobId": git_blob(content)}
                if _is_lfs(name):
                    one["lfs"] = {"sha256": self.etag(name), "size": len(content), "pointerSize": 134}
            out.append(one)
        return out

    def tree(self) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for name, content in self.files.items():
            one: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_blob(content)}
            if _is_lfs(name):
                one["lfs"] = {"oid": self.etag(name), "size": len(content), "pointerSize": 134}
            out.append(one)
        return out


def _is_lfs(name: str) -> bool:
    return name.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        hub, url = self.hub, urlsplit(self.path)
        hub.requests.append((self.command, url.path, self.headers.get("Range")))
        path = unquote(url.path)
        if path in {f"/api/models/{hub.repo}", f"/api/models/{hub.repo}/revision/main"}:
            siblings = hub.siblings(blobs="blobs=" in url.query)
            return self._json({"id": hub.repo, "modelId": hub.repo, "sha": hub.commit, "siblings": siblings})
        if re.fullmatch(f"/api/models/{hub.repo}/tree/(main|{hub.commit})", path):
            return self._json(hub.tree())
        found = re.fullmatch(f"/{hub.repo}/resolve/(?:main|{hub.commit})/(.+)", path)
        if found and found[1] in hub.files:
            return self._file(found[1])
        known = path.startswith((f"/{hub.repo}/", f"/api/models/{hub.repo}"))
        code = "EntryNotFound" if known else "RepoNotFound"
        return self._json({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _file(self, name: str) -> None:
        hub, content = self.hub, self.hub.served[name]
        headers = {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self._send(content, 200, headers, hub.cut.pop(name, None) if self.command == "GET" else None)
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(content[first : last + 1], 206, headers)

    def _send(self, body: bytes, status: int, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
