"""Results that outlive the run: every row is on disk before the next is measured, and a later run goes on behind them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Deadline:
    """So many seconds from now."""

    def __init__(self, limit_s: float) -> None:
        self._end = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def has(self, seconds: float) -> bool:
        """Whether that much is left."""
        return self.left_s >= seconds


class Results:
    """Rows by part and key."""

    def __init__(self, path: Path) -> None:
        """Raises `ValueError` for a file that holds something else."""
        self.path = path
        self.content: dict[str, Any] = {"conditions": {}, "parts": {}}
        if path.exists():
            try:
                self.content = json.loads(path.read_text("utf-8"))
                _ = self.content["conditions"], self.content["parts"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path} holds no results; move it away, or give another --out") from None

    def conditions(self, **facts: Any) -> None:
        """About the machine. Raises `ValueError` when the rows that are there come from another."""
        stored = self.content["conditions"]
        if other := [k for k, v in facts.items() if k in stored and stored[k] != v and self.content["parts"]]:
            was = ", ".join(f"{k} {stored[k]!r}" for k in other)
            raise ValueError(f"{self.path} was measured with {was}; give another --out")
        stored |= facts
        self._write()

    def part(self, part: str) -> dict[str, Row]:
        return self.content["parts"].get(part, {})

    def has(self, part: str, key: str) -> bool:
        return key in self.part(part)

    def record(self, part: str, key: str, row: Row) -> Row:
        self.content["parts"].setdefault(part, {})[key] = row
        self._write()
        return row

    def forget(self, part: str, key: str) -> None:
        """A row that no longer holds; none is fine."""
        if self.content["parts"].get(part, {}).pop(key, None) is not None:
            self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")
        half.replace(self.path)
