"""Becomes `tritonserver` after asking the kernel to end it with its parent, whatever kills the parent.

Run as `python launch.py PARENT_PID COMMAND…`. `prctl(PR_SET_PDEATHSIG)` survives `exec`; Triton then takes SIGTERM and
its Python stubs notice that it is gone.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
