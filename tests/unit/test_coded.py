"""Coded audio in any cut: the same samples as in one piece, soon, and nothing but a clear error for what is none."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.encoded import KINDS, RATE, Kind, encode
from frontend.audio.coded import CONTAINERS, LONGEST_BLOCK, Decoder
from frontend.audio.format import ENCODINGS, FRAMED, AudioFormat
from frontend.errors import UndecodableAudio
from tests.unit.strategies import cuts, pieces

STREAMS = [name for name, kind in KINDS.items() if kind.container]


def chirp(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (8_000 * np.sin(2 * np.pi * (200 + 300 * t) * t)).astype(np.int16)


def audio_format(kind: Kind) -> AudioFormat:
    return AudioFormat(kind.encoding, min(kind.rate, 48_000), kind.channels)


def decode(audio: AudioFormat, messages: Sequence[bytes], *, apart: bool = False) -> np.ndarray:
    """int16 (channels, n)"""
    blocks = list(Decoder(audio, apart=apart).blocks(messages))
    assert all(0 <= block.shape[1] <= LONGEST_BLOCK for block in blocks)
    return np.concatenate(blocks, axis=1)


@pytest.fixture(scope="module")
def encoded() -> dict[str, list[bytes]]:
    return {name: encode(chirp(0.6), kind) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_decoded_to_what_it_was(name: str):
    sent = chirp(2.0)
    got = decode(audio_format(KINDS[name]), encode(sent, KINDS[name]))[0]
    assert -0.03 < len(got) / RATE - 2.0 < 0.15, "priming and padding of the codec at the most"
    n = min(len(sent), len(got))
    spectra = np.fft.rfft(got[:n], 2 * n), np.fft.rfft(sent[:n], 2 * n)
    correlation = np.fft.irfft(spectra[0] * np.conj(spectra[1]))
    delay = int(np.argmax(correlation))
    assert delay < 0.07 * RATE, "AAC's priming of 1024 samples is the longest"
    norm = np.linalg.norm(got[:n].astype(float)) * np.linalg.norm(sent[:n].astype(float))
    assert correlation[delay] / norm > 0.8


@pytest.mark.parametrize("name", STREAMS)
@given(draw=st.data())
@settings(max_examples=12)
def test_any_cut_gives_the_same_samples(encoded: dict[str, list[bytes]], name: str, draw: st.DataObject):
    (data,) = encoded[name]
    cut = pieces(data, draw.draw(cuts(len(data))))
    whole = decode(audio_format(KINDS[name]), [data])
    np.testing.assert_array_equal(decode(audio_format(KINDS[name]), cut), whole)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_held_back_that_could_be_decoded(name: str):
    """After every piece what came out is at most `lag_s` behind what went in (a resampler's 0.13 s included)."""
    kind, heard, sent = KINDS[name], 0, 0
    whole = encode(chirp(3.0), kind)
    total = sum(map(len, whole))
    messages = whole if len(whole) > 1 else [whole[0][i : i + 200] for i in range(0, total, 200)]
    behind: list[float] = []

    def feed():
        nonlocal sent
        for message in messages:
            behind.append(sent / total * 3.0 - heard / RATE)
            sent += len(message)
            yield message

    for block in Decoder(audio_format(kind), apart=False).blocks(feed()):
        heard += block.shape[1]
    assert max(behind) < kind.lag_s + 0.2


def test_what_the_resampler_holds_is_given_when_asked_for():
    (data,) = encode(chirp(1.0), KINDS["ogg-opus"])
    decoder = Decoder(AudioFormat("auto"), apart=False)
    flushed: list[int] = []

    def feed():
        yield data
        flushed.append(sum(block.shape[1] for block in decoder.flush()))

    heard = sum(block.shape[1] for block in decoder.blocks(feed()))
    assert flushed[0] > 0
    assert abs(heard + flushed[0] - RATE) < 0.05 * RATE


# --- channels and changes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wav-24-bit-stereo", "ogg"])
def test_channels_apart(name: str):
    left, right = chirp(0.5), np.zeros(RATE // 2, np.int16)
    kind = KINDS.get(name, Kind("ogg", "libopus", 48_000, bit_rate=64_000, channels=2))
    got = decode(AudioFormat("auto"), encode(np.stack([left, right]), kind), apart=True)
    loud = np.abs(got.astype(int)).mean(axis=1)
    assert len(got) == 2
    assert loud[0] > 50 * loud[1]


@pytest.mark.parametrize("name", ["mp3", "aac"])
def test_another_rate_in_the_middle_is_resampled_too(name: str):
    kind = KINDS[name]
    faster = Kind(kind.container, kind.codec, 44_100, bit_rate=64_000)
    (first,), (second,) = encode(chirp(1.0), kind), encode(chirp(1.0), faster)
    got = decode(AudioFormat("auto"), [first, second])
    assert got.shape[1] / RATE == pytest.approx(2.0, abs=0.25)


def test_a_codecs_name_on_a_container_is_the_one_within(encoded: dict[str, list[bytes]]):
    expected = decode(AudioFormat("auto"), encoded["ogg-opus"])
    np.testing.assert_array_equal(decode(AudioFormat("opus"), encoded["ogg-opus"]), expected)
    expected = decode(AudioFormat("auto"), encoded["amr"])
    np.testing.assert_array_equal(decode(AudioFormat("amr-nb"), encoded["amr"]), expected)


def test_amr_without_its_file_header(encoded: dict[str, list[bytes]]):
    data = encoded["amr"][0]
    expected = decode(AudioFormat("auto"), [data])
    bare = data.removeprefix(b"#!AMR\n")
    np.testing.assert_array_equal(decode(AudioFormat("amr-nb"), [bare[:7], bare[7:100], bare[100:]]), expected)


@pytest.mark.parametrize(
    ("encoding", "frame", "seconds"),
    [
        ("gsm", b"\xd0" + bytes(32), 0.02),
        ("g729", bytes(10), 0.01),
        ("amr-wb", b"\x7c", 0.02),  # no data: comfort noise
        ("g722", bytes(80), 0.01),
    ],
)
def test_frames_that_nothing_here_can_encode_take_the_time_that_they_stand_for(encoding: str, frame: bytes, seconds: float):
    got = decode(AudioFormat(encoding, 8_000), [frame * 10] * 10)
    assert got.shape[1] / RATE == pytest.approx(100 * seconds, abs=0.06)


def test_speex_packets():
    frame = 0b00010 << 123 | 0b0_1111_1111  # narrowband, submode 2: 119 bits; then the terminator
    got = decode(AudioFormat("speex", 8_000), [frame.to_bytes(16, "big")] * 10)
    assert got.shape[1] / RATE == pytest.approx(10 * 0.02, abs=0.01)


# --- what is broken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ogg-opus", "webm", "mp3", "aac", "flac", "amr", "mpegts", "opus"])
def test_a_hole_in_the_middle_is_left_out(name: str):
    messages = encode(chirp(4.0), KINDS[name])
    if len(messages) == 1:
        data = bytearray(messages[0])
        middle = len(data) // 2
        data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
        messages = [bytes(data)]
    else:
        messages[50:60] = [b"\xff" * 40] * 10
    got = decode(audio_format(KINDS[name]), messages)
    assert 3.0 < got.shape[1] / RATE < 4.7


@pytest.mark.parametrize("name", ["ogg-opus", "webm", "mp3", "aac", "flac", "amr", "mp4", "wav"])
def test_a_stream_that_breaks_off_gives_what_came(name: str):
    (data,) = encode(chirp(2.0), KINDS[name])
    got = decode(AudioFormat("auto"), [data[: len(data) // 2]])
    assert got.shape[1] > 0.3 * RATE


@pytest.mark.parametrize(
    "data", [b"", b"no audio" * 5000, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", bytes(40_000), b"\x89PNG\r\n\x1a\n" * 4000]
)
def test_what_is_no_audio_is_refused_with_what_to_send(data: bytes):
    with pytest.raises(UndecodableAudio, match="send WAV, FLAC, Ogg"):
        decode(AudioFormat("auto"), [data])


def test_what_is_no_audio_is_refused_before_it_ends():
    taken = 0

    def feed():
        nonlocal taken
        while True:
            taken += 1000
            yield b"noise " * 167

    with pytest.raises(UndecodableAudio):
        decode(AudioFormat("auto"), feed())  # type: ignore[arg-type]
    assert taken <= 64_000


def test_a_wav_header_of_any_numbers(encoded: dict[str, list[bytes]]):
    (data,) = encoded["wav"]
    at = data.index(b"fmt ") + 8
    for field, size in ((2, 2), (4, 4), (12, 2), (14, 2)):
        for value in (0, 1, 3, 255, 65_535):
            broken = bytearray(data)
            broken[at + field : at + field + size] = value.to_bytes(size, "little")
            with contextlib.suppress(UndecodableAudio):
                decode(AudioFormat("auto"), [bytes(broken)], apart=True)


HEADS = [b"", b"OggS", b"fLaC", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"\x1aE\xdf\xa3", b"ID3", b"\xff\xfb\x90\x64", b"#!AMR\n"]


@given(
    encoding=st.sampled_from([name for name in ENCODINGS if not AudioFormat(name).raw]),
    rate=st.integers(8_000, 48_000),
    channels=st.integers(1, 2),
    apart=st.booleans(),
    head=st.sampled_from(HEADS),
    messages=st.lists(st.binary(max_size=400), max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_samples_or_a_clear_error(
    encoding: str, rate: int, channels: int, apart: bool, head: bytes, messages: list[bytes]
):
    try:
        got = decode(AudioFormat(encoding, rate, channels), [head, *messages], apart=apart)
    except UndecodableAudio:
        return
    assert got.dtype == np.int16


@pytest.mark.parametrize("name", STREAMS)
@given(draw=st.data())
@settings(max_examples=25, deadline=None)
def test_damage_anywhere_gives_samples_or_a_clear_error(encoded: dict[str, list[bytes]], name: str, draw: st.DataObject):
    data = bytearray(encoded[name][0])
    for at, value in draw.draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=20)):
        data[at] = value
    whole = pieces(bytes(data), draw.draw(cuts(len(data))))
    try:
        decode(audio_format(KINDS[name]), whole)
    except UndecodableAudio:
        return


def test_ffmpeg_has_what_the_tables_name():
    assert {*CONTAINERS.split(","), *FRAMED.values()} <= {name for f in av.formats_available for name in f.split(",")}
