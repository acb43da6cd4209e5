"""Lines are written in order by a thread; one that gets stuck holds nobody up."""

from __future__ import annotations

import logging
import threading

from frontend.observability.logs import Background


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.may_write = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.may_write.wait(10)
        self.lines.append(record.getMessage())


def _logger(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger


def test_everything_is_written_in_order_before_the_end():
    kept = Kept()
    kept.may_write.set()
    handler = Background(kept)
    logger = _logger(handler)
    for i in range(1000):
        logger.info("line %d", i)
    handler.close()
    assert kept.lines == [f"line {i}" for i in range(1000)]


def test_a_stuck_writer_holds_nobody_up_and_what_is_dropped_is_said():
    kept = Kept()
    handler = Background(kept, max_waiting=10)
    logger = _logger(handler)
    for i in range(100):
        logger.info("line %d", i)
    kept.may_write.set()
    while len(kept.lines) < 10:
        threading.Event().wait(0.01)
    logger.info("later")
    handler.close()
    n = len(kept.lines) - 2
    assert kept.lines == [*(f"line {i}" for i in range(n)), f"{100 - n} log lines were dropped: they are not taken as fast "
                          "as they come", "later"]  # fmt: skip
