"""Runs `tritonserver` and ends it, its stubs included, with the front end, whatever kills that.

Run as `python launch.py PARENT_PID COMMAND…`, the leader of a process group of its own. When the parent is gone the kernel
sends SIGTERM (`PR_SET_PDEATHSIG`) and the whole group is killed, a stub that hangs too. While the parent lives, SIGTERM is
passed on to Triton. Should this process itself be killed, the kernel ends Triton, and its stubs notice.
"""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    server: subprocess.Popen[bytes] | None = None

    def on_term(*_: object) -> None:
        if os.getppid() != parent:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        elif server is not None:
            server.terminate()

    signal.signal(signal.SIGTERM, on_term)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)
    server = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(signal.SIGKILL))
    status = server.wait()
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
