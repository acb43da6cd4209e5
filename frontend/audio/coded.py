"""Coded audio to 16 kHz samples, by FFmpeg (PyAV). Runs in a process of its own: see `frontend.decoding`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from frontend.audio.channels import Channels
from frontend.audio.format import ENGINE_RATE, FRAMED, MAX_CHANNELS, PACKETS, AudioFormat
from frontend.audio.resample import Float, Resampler
from frontend.audio.sniff import ENOUGH, SEND, demuxer, id3_size, magic
from frontend.audio.wav import Wav, parsed
from frontend.errors import UndecodableAudio

Block = npt.NDArray[np.int16]
"""int16 (channels, n) at 16 kHz."""

LONGEST_BLOCK = ENGINE_RATE
"""Samples of a channel in one block: however much a few bytes unfold to, a second of it is waited for at a time."""
RATES = range(4_000, 384_001)
"""Of decoded frames; what claims another rate is taken for corrupt."""
MOST_FAILURES = 100
"""Errors of the demuxer one after another, then the container is given up."""
PIECE = 65_536
"""Bytes of a WAV stream decoded at once: two seconds of linear16."""
CONTAINERS = "wav,w64,flac,ogg,mp3,aac,loas,mov,matroska,amr,aiff,caf,au,asf,avi,mpegts,nistsphere"
"""What FFmpeg may take bytes for: playlists would have it open other files and addresses."""
OPTIONS = {
    "formatprobesize": "16384",  # of bytes that say nothing of themselves
    "probesize": "16384",
    "analyzeduration": "1",  # the decoder finds out rate and channels; waiting for more packets would be latency
}
_SCALE = {"u1": 1 / 128, "i2": 1 / 32768, "i4": 1 / 2**31, "i8": 1 / 2**63}


class Decoder:
    """One stream. `apart`: each channel for itself instead of their mix."""

    def __init__(self, audio_format: AudioFormat, *, apart: bool) -> None:
        self._format, self._apart = audio_format, apart
        self._rate = 0
        self._resamplers: list[Resampler] = []

    def blocks(self, messages: Iterable[bytes]) -> Iterator[Block]:
        """The samples of bytes in any cut, or of a packet in each message; all there can be before the next one is taken.

        What is broken within the stream is left out. Raises `UndecodableAudio` when nothing is left.
        """
        stream = _Stream(messages)
        if self._format.contained or magic(stream.head(1 if self._format.encoding in PACKETS else ENOUGH)):
            frames = _contained(stream)  # a codec's name may be that of the one within
        elif self._format.encoding in PACKETS:
            frames = self._packets(stream)
        else:
            frames = _frames(stream, FRAMED[self._format.encoding])
        yield from self._heard(frames)
        stream.drop()

    def file(self, path: str, head: bytes, pieces: Iterable[bytes]) -> Iterator[Block]:
        """The samples of a file, which may be sought in; `pieces` are all of it, `head` is how it begins."""
        if self._format.raw and not magic(head):
            yield from _raw(Channels(self._format, apart=self._apart), pieces)
            return
        kind = "" if magic(head) else FRAMED.get(self._format.encoding, "")
        yield from self._heard(_frames(path, kind))

    def flush(self) -> Iterator[Block]:
        """What the resamplers hold; the stream may go on afterwards."""
        if self._resamplers:
            yield np.stack([resampler.flush() for resampler in self._resamplers])

    def _heard(self, frames: Iterator[AudioFrame]) -> Iterator[Block]:
        heard = False
        for frame in frames:
            for block in self._resampled(frame):
                heard = True
                yield from _cut(block)
        if not heard:
            raise UndecodableAudio(f"there is no sound in it; {SEND}")
        for block in self.flush():
            yield from _cut(block)

    def _resampled(self, frame: AudioFrame) -> Iterator[Block]:
        if frame.sample_rate not in RATES or frame.samples == 0:
            return
        samples = _samples(frame)
        if self._apart and len(samples) > MAX_CHANNELS:
            raise UndecodableAudio(f"{len(samples)} channels; up to {MAX_CHANNELS} are transcribed apart")
        if frame.sample_rate != self._rate:
            yield from self.flush()
            n = len(self._resamplers) or (len(samples) if self._apart else 1)
            self._rate, self._resamplers = frame.sample_rate, [Resampler(frame.sample_rate) for _ in range(n)]
        if not self._apart:
            samples = samples.mean(axis=0, dtype=np.float32, keepdims=True)
        # a stream keeps the number of channels that it began with
        yield np.stack([resampler.feed(samples[i % len(samples)]) for i, resampler in enumerate(self._resamplers)])

    def _packets(self, stream: _Stream) -> Iterator[AudioFrame]:
        layout = "stereo" if self._format.channels == 2 else "mono"
        context = _context(self._format.encoding, self._format.sample_rate, layout)
        for message in stream.messages():
            try:
                yield from context.decode(Packet(message))
            except FFmpegError:
                continue


def _raw(channels: Channels, pieces: Iterable[bytes]) -> Iterator[Block]:
    for piece in pieces:
        yield from _cut(np.stack(channels.feed(piece)))
    yield np.stack(channels.flush())


def _contained(stream: _Stream) -> Iterator[AudioFrame]:
    while size := id3_size(stream.head(10)):  # whatever comes after it; MP3, AAC and FLAC do
        stream.skip(size)
    head = stream.head(ENOUGH)
    while (kind := demuxer(head)) is None and not stream.ended:
        head = stream.head(len(head) + 1)
    if kind == "wav" and (wav := _plain(stream)):
        return _pcm(stream, wav)
    return _frames(stream, kind or "")


def _plain(stream: _Stream) -> Wav | None:
    head = stream.head(ENOUGH)
    while not stream.ended:
        try:
            return parsed(head)
        except IndexError:
            head = stream.head(len(head) + 1)
    return None


def _pcm(stream: _Stream, wav: Wav) -> Iterator[AudioFrame]:
    """The samples as they come; none is held back."""
    context = _context(wav.codec, wav.sample_rate, f"{wav.channels}c")
    stream.skip(wav.begin)
    left, rest = wav.length, b""
    while data := stream.read(PIECE if left is None else min(PIECE, left)):
        left = None if left is None else left - len(data)
        data = rest + data
        whole = len(data) - len(data) % wav.frame_bytes
        data, rest = data[:whole], data[whole:]
        if data:
            yield from context.decode(Packet(data))


def _context(codec: str, sample_rate: int, layout: str) -> AudioCodecContext:
    context = AudioCodecContext.create(codec, "r")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout = sample_rate, layout
    return context


def _frames(source: _Stream | str, kind: str) -> Iterator[AudioFrame]:
    """Raises `UndecodableAudio` when it is not the container that it seems to be; skips what is broken within."""
    try:
        options = OPTIONS | {"format_whitelist": kind or CONTAINERS}
        container = av.open(source, "r", format=kind or None, options=options, metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise UndecodableAudio(f"nothing decodes it; {SEND}") from error
    with container:
        if not container.streams.audio:
            raise UndecodableAudio(f"there is no sound in it; {SEND}")
        for packet in _demuxed(container):
            try:
                yield from packet.decode()
            except FFmpegError:
                continue


def _demuxed(container: InputContainer) -> Iterator[Packet[AudioStream]]:
    failures = 0
    while failures < MOST_FAILURES:
        try:
            for packet in container.demux(container.streams.audio[0]):
                failures = 0
                yield packet
            return
        except FFmpegError:
            failures += 1


def _samples(frame: AudioFrame) -> Float:
    """float32 (channels, n) in -1..1; not-a-number and infinity become silence."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    kind = f"{samples.dtype.kind}{samples.dtype.itemsize}"
    samples = samples.astype(np.float32)
    if kind == "u1":
        samples -= 128
    if kind[0] == "f":
        return np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
    return samples * np.float32(_SCALE[kind])


def _cut(block: Block) -> Iterator[Block]:
    for i in range(0, block.shape[1], LONGEST_BLOCK):
        yield block[:, i : i + LONGEST_BLOCK]


class _Stream:
    """Messages as what FFmpeg reads: a file that cannot seek, whose `read` gives what there is."""

    def __init__(self, messages: Iterable[bytes]) -> None:
        self._messages = iter(messages)
        self._rest = b""
        self.ended = False

    def head(self, n: int) -> bytes:
        """The next bytes, at least `n` unless the stream ends before; they stay to be read."""
        while len(self._rest) < n and self._more():
            pass
        return self._rest

    def skip(self, n: int) -> None:
        while n and (self._rest or self._more()):
            dropped = min(n, len(self._rest))
            self._rest = self._rest[dropped:]
            n -= dropped

    def read(self, n: int) -> bytes:
        while not self._rest and self._more():
            pass
        out, self._rest = self._rest[:n], self._rest[n:]
        return out

    def messages(self) -> Iterator[bytes]:
        if self._rest:
            yield self._rest
        yield from self._messages

    def drop(self) -> None:
        """Takes the rest for nothing."""
        for _ in self._messages:
            pass

    def _more(self) -> bool:
        message = next(self._messages, None)
        if message is None:
            self.ended = True
            return False
        self._rest += message
        return True
