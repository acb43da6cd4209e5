"""`python -m frontend.decoding.host FD`: has PyAV loaded and forks a decoder whenever the server asks for one.

FD is a SOCK_SEQPACKET socket. A decoder's number with a socket: fork one that talks over it. A number alone: kill it.
At the socket's end, which is the server's, everything here ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import traceback

from frontend.decoding import worker

PR_SET_PDEATHSIG = 1


def main(fd: int) -> None:
    for ours in (signal.SIGINT, signal.SIGTERM):  # the server drains first, and then closes the socket
        signal.signal(ours, signal.SIG_IGN)
    control = socket.socket(fileno=fd)
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    prctl = ctypes.CDLL(None).prctl
    gc.collect()
    gc.freeze()  # the collector of a child must not write to pages that it shares
    children: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(4096)
            _reap(children)
        if control not in readable:
            continue
        message, fds, _, _ = socket.recv_fds(control, 64, 1)
        if not message:
            break
        number = int(message)
        if not fds:
            if pid := children.get(number):
                os.kill(pid, signal.SIGKILL)
            continue
        with socket.socket(fileno=fds[0]) as sock, contextlib.suppress(OSError):  # without a process it just closes
            pid = os.fork()
            if pid == 0:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                signal.set_wakeup_fd(-1)
                for end in (control, woken, wake):
                    end.close()
                _decode(sock)
            children[number] = pid
    for pid in children.values():
        os.kill(pid, signal.SIGKILL)


def _decode(sock: socket.socket) -> None:
    """Does not return: nothing of the host's own runs in its child."""
    try:
        worker.run(sock)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _reap(children: dict[int, int]) -> None:
    for number, pid in list(children.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del children[number]


if __name__ == "__main__":
    main(int(sys.argv[1]))
