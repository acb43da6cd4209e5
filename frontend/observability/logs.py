"""Log lines for people on a terminal, or JSON lines for a collector; a thread writes them, so nobody waits for a disk."""

from __future__ import annotations

import atexit
import json
import logging
import queue
import threading
from datetime import UTC, datetime

MAX_WAITING = 10_000
"""Lines that wait to be written; more are dropped and counted."""
LAST_LINES_S = 2.0
"""For what waits when the process ends."""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class Background(logging.Handler):
    """Hands records to another handler in a thread: a terminal, pipe or disk that takes nothing stops no stream."""

    def __init__(self, writer: logging.Handler, max_waiting: int = MAX_WAITING) -> None:
        super().__init__()
        self._writer, self._dropped = writer, 0
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                text = f"{self._dropped} log lines were dropped: they are not taken as fast as they come"
                self._waiting.put_nowait(logging.LogRecord(__name__, logging.WARNING, "", 0, text, (), None))
                self._dropped = 0
            self._waiting.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Writes what waits, for a short while."""
        try:
            self._waiting.put(None, timeout=LAST_LINES_S)
        except queue.Full:
            return
        self._thread.join(LAST_LINES_S)
        super().close()

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._writer.handle(record)


def configure(*, json_lines: bool, verbose: bool) -> None:
    writer = logging.StreamHandler()
    writer.setFormatter(_Json() if json_lines else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    handler = Background(writer)
    atexit.register(handler.close)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for name in ("websockets", "uvicorn.access", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that is none; clients are told
