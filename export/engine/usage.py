"""What processes of this machine have used, from the kernel's books (proc(5)): Triton's image has no package for it."""

from __future__ import annotations

import os
from pathlib import Path

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads, since it started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # its name may hold anything
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_bytes(pid: int) -> int:
    """Resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
