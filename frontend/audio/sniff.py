"""Which container a stream is, from its first bytes."""

from __future__ import annotations

from frontend.errors import UndecodableAudio

SEND = "send WAV, FLAC, Ogg, WebM, MP3, AAC, AMR or MP4 (fragmented or index first), or name the encoding of raw audio"
MOST_HEAD = 4096
"""Bytes after which FFmpeg shall find out by itself, or say that it cannot."""

_MAGIC = {
    b"OggS": "ogg",
    b"fLaC": "flac",
    b"\x1aE\xdf\xa3": "matroska",
    b"#!AMR": "amr",
    b"caff": "caf",
    b".snd": "au",
    b"NIST_1A": "nistsphere",
    b"riff\x2e\x91\xcf\x11": "w64",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
}
"""To the names of FFmpeg's demuxers."""
_CHUNKED = {b"WAVE": "wav", b"AVI ": "avi", b"AIFF": "aiff", b"AIFC": "aiff"}
"""Form types in RIFF, RIFX, RF64 and FORM files."""
_BOXES = (b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"free", b"skip", b"wide", b"mdat", b"emsg")
"""What an MP4 or QuickTime file may begin with (ISO/IEC 14496-12)."""
ENOUGH = 12
"""Bytes that tell every container but MP4."""


def id3_size(head: bytes) -> int | None:
    """Bytes of an ID3v2 tag at the start, 0 where there is none; None: more bytes are needed to tell."""
    if not head.startswith(b"ID3"[: len(head)]):
        return 0
    if len(head) < 10:
        return None
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def magic(head: bytes) -> str | None:
    """The name of FFmpeg's demuxer for a container that signs its first bytes."""
    for signature, name in _MAGIC.items():
        if head.startswith(signature):
            return name
    return _CHUNKED.get(head[8:ENOUGH]) if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM") else None


def demuxer(head: bytes) -> str | None:
    """The name of FFmpeg's demuxer; "" where FFmpeg shall find out; None: more bytes are needed to tell.

    Raises `UndecodableAudio` for an MP4 file that cannot be decoded as it comes.
    """
    if len(head) < ENOUGH:
        return None
    if name := magic(head):
        return name
    if head[4:8] in _BOXES:
        return _mp4(head)
    if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    if head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C:
        return "mp3"
    return ""


def _mp4(head: bytes) -> str | None:
    at = 0
    while at + 16 <= len(head):
        size, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if kind in (b"moov", b"moof"):
            return "mov"
        if kind == b"mdat":
            raise UndecodableAudio("this MP4 has its index at the end; POST the file, or write it with -movflags +faststart")
        if size == 1:
            size = int.from_bytes(head[at + 8 : at + 16], "big")
        if size < 8 or kind not in _BOXES:
            return ""
        at += size
    return None if at < MOST_HEAD else ""
