"""What a stream is, from its first bytes, however few there are."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.sniff import demuxer, id3_size, magic
from frontend.audio.wav import Wav, parsed
from frontend.errors import UndecodableAudio

FTYP = struct.pack(">I4s8s", 16, b"ftyp", b"isomisom")


def box(kind: bytes, size: int = 8) -> bytes:
    return struct.pack(">I4s", size, kind) + bytes(32)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"OggS" + bytes(20), "ogg"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "avi"),
        (b"FORM\x00\x00\x00\x00AIFCFVER", "aiff"),
        (b"\x1aE\xdf\xa3" + bytes(20), "matroska"),
        (b"fLaC" + bytes(20), "flac"),
        (b"#!AMR-WB\n" + bytes(20), "amr"),
        (b"\xff\xf1\x50\x80" + bytes(20), "aac"),
        (b"\xff\xfb\x90\x64" + bytes(20), "mp3"),
        (FTYP + box(b"moov"), "mov"),
        (FTYP + box(b"free") + box(b"moof"), None),  # `free` is 8 long, its 32 zeros are no box
        (FTYP + struct.pack(">I4s", 8, b"free") + box(b"moof"), "mov"),
        (b'{"type":"KeepAlive"}', ""),
        (bytes(20), ""),
        (b"", None),
        (b"OggS", None),
    ],
)
def test_containers_by_their_signature(head: bytes, name: str | None):
    if name is None and len(head) > 12:
        assert demuxer(head) == ""
    else:
        assert demuxer(head) == name


def test_an_mp4_with_its_index_at_the_end_is_refused_with_what_to_do():
    with pytest.raises(UndecodableAudio, match="POST the file, or write it with -movflags \\+faststart"):
        demuxer(FTYP + box(b"mdat", 100_000))


@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes):
    for head in (data, FTYP + data, b"RIFF\x00\x00\x00\x00WAVE" + data):
        try:
            assert demuxer(head) is None or isinstance(demuxer(head), str)
        except UndecodableAudio:
            assert b"mdat" in head
        assert magic(head) in (None, demuxer(head) if len(head) >= 12 else magic(head))
        assert (id3_size(head) or 0) >= 0
        with contextlib.suppress(IndexError):
            assert parsed(head) is None or isinstance(parsed(head), Wav)


def test_the_length_of_an_id3_tag():
    assert id3_size(b"ID3\x04\x00\x00\x00\x00\x02\x01") == 10 + 257
    assert id3_size(b"ID3\x04\x00\x10\x00\x00\x00\x01") == 21
    assert id3_size(b"ID3") is None
    assert id3_size(b"OggS") == 0


def wav(fmt: bytes, *, size: int, before: bytes = b"") -> bytes:
    chunk = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt
    return b"RIFF\x00\x00\x00\x00WAVE" + before + chunk + struct.pack("<4sI", b"data", size)


PCM = struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16)


def test_a_plain_wav_is_read_here():
    junk = b"JUNK\x03\x00\x00\x00abc\x00"
    assert parsed(wav(PCM, size=400)) == Wav("pcm_s16le", 44_100, 2, 4, 44, 400)
    assert parsed(wav(PCM, size=400, before=junk)) == Wav("pcm_s16le", 44_100, 2, 4, 56, 400)
    extensible = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 1, 8000, 24_000, 3, 24, 22, 24, 4, 1, b"")
    assert parsed(wav(extensible, size=3)) == Wav("pcm_s24le", 8000, 1, 3, 68, 3)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_writer_that_did_not_know_the_length_is_understood(size: int):
    found = parsed(wav(PCM, size=size))
    assert found
    assert found.length is None


def test_other_wavs_are_left_to_ffmpeg():
    assert parsed(wav(struct.pack("<HHIIHH", 2, 1, 8000, 4000, 256, 4), size=256)) is None  # ADPCM
    assert parsed(wav(struct.pack("<HHIIHH", 1, 0, 8000, 0, 0, 16), size=4)) is None
    assert parsed(wav(struct.pack("<HHIIHH", 1, 1, 4_000_000_000, 0, 2, 16), size=4)) is None
    assert parsed(b"OggS" + bytes(20)) is None


def test_half_a_header_is_no_header_yet():
    whole = wav(PCM, size=400)
    for n in range(12, len(whole)):
        with pytest.raises(IndexError):
            parsed(whole[:n])
