"""The life of a decoder's process: one job, then the end. Whatever breaks here breaks one stream."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from frontend.audio.coded import Block, Decoder
from frontend.audio.format import AudioFormat
from frontend.decoding import wire
from frontend.errors import VoiceForgeError

HEAD_BYTES = 64
"""Of a file, to see its signature."""
PIECE_BYTES = 64 * 1024


def limit(memory_bytes: int) -> None:
    """What this process may still take; FFmpeg and ours are told by failed allocations."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def run(sock: socket.socket) -> None:
    """Raises `EOFError` when the server has no more use for it."""
    job = json.loads(_receive(sock)[1])
    limit(job["memory_bytes"])
    try:
        decoder = Decoder(AudioFormat(**job["format"]), apart=job["apart"])
        if path := job["path"]:
            with Path(path).open("rb") as file:
                head = file.read(HEAD_BYTES)
            blocks = decoder.file(path, head, _pieces(Path(path)))
        else:
            blocks = decoder.blocks(_messages(sock, decoder))
        for block in blocks:
            _send_block(sock, block)
        sock.sendall(wire.packed(wire.DONE))
    except VoiceForgeError as error:
        sock.sendall(wire.packed(wire.FAILED, str(error).encode()))
    except MemoryError:
        sock.sendall(wire.packed(wire.FAILED, b"it takes more memory than a stream may have; send another encoding"))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _messages(sock: socket.socket, decoder: Decoder) -> Iterator[bytes]:
    while True:
        sock.sendall(wire.packed(wire.HUNGRY))
        kind, body = _receive(sock)
        if kind == wire.END:
            return
        if kind == wire.FLUSH:
            for block in decoder.flush():
                _send_block(sock, block)
        elif body:
            yield body


def _send_block(sock: socket.socket, block: Block) -> None:
    if block.shape[1]:
        sock.sendall(wire.packed(wire.BLOCK, bytes([len(block)]) + np.ascontiguousarray(block).tobytes()))


def _receive(sock: socket.socket) -> tuple[bytes, bytes]:
    kind, length = wire.HEAD.unpack(_exactly(sock, wire.HEAD.size))
    return kind, _exactly(sock, length)


def _exactly(sock: socket.socket, n: int) -> bytes:
    data = bytearray()
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
