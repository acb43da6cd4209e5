"""What a decoder's process and the server say to each other over a socket: a kind, a length, a body.

The server asks, the decoder answers: after the job, and after each `DATA` or `FLUSH`, come the blocks that can be made, then
`HUNGRY`; after `END`, or of a file, the blocks, then `DONE`; instead of either `FAILED`, with a sentence for the client.
"""

from __future__ import annotations

import struct

JOB, DATA, FLUSH, END = b"J", b"D", b"F", b"E"
HUNGRY, BLOCK, DONE, FAILED = b"H", b"B", b"Z", b"X"
HEAD = struct.Struct(">cI")


def packed(kind: bytes, body: bytes = b"") -> bytes:
    return HEAD.pack(kind, len(body)) + body
