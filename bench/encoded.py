"""Samples as coded audio of every kind that PyAV's FFmpeg can write."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

RATE = 16_000


@dataclass(frozen=True)
class Kind:
    """`container` None: packets. `lag_s`: what FFmpeg holds back of bytes that it has, at the most."""

    container: str | None
    codec: str
    rate: int = RATE
    options: dict[str, str] = field(default_factory=dict)
    bit_rate: int | None = None
    encoding: str = "auto"
    lag_s: float = 0.1
    channels: int = 1


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}
KINDS = {
    "wav": Kind("wav", "pcm_s16le"),
    "wav-24-bit-stereo": Kind("wav", "pcm_s24le", 44_100, channels=2),
    "wav-mulaw": Kind("wav", "pcm_mulaw", 8_000),
    "w64": Kind("w64", "pcm_s16le", lag_s=2.1),
    "aiff": Kind("aiff", "pcm_s16be", lag_s=0.6),
    "au": Kind("au", "pcm_s16be", lag_s=0.2),
    "caf": Kind("caf", "pcm_s16le", lag_s=0.2),
    "flac": Kind("flac", "flac", lag_s=4.0),
    "flac-96-khz": Kind("flac", "flac", 96_000, lag_s=1.0),
    "ogg-opus": Kind("ogg", "libopus", 48_000, {"page_duration": "20000"}, 24_000),
    "webm": Kind("webm", "libopus", 48_000, {"cluster_time_limit": "100"}, 32_000, lag_s=0.3),
    "mp3": Kind("mp3", "libmp3lame", RATE, bit_rate=32_000, lag_s=0.3),
    "aac": Kind("adts", "aac", bit_rate=48_000, lag_s=0.3),
    "mp4": Kind("mp4", "aac", RATE, FRAGMENTED, 48_000, lag_s=0.4),
    "mpegts": Kind("mpegts", "aac", bit_rate=48_000, lag_s=0.6),
    "amr": Kind("amr", "libopencore_amrnb", 8_000, bit_rate=12_200),
    "g722": Kind("g722", "g722", encoding="g722"),
    "opus-32": Kind(None, "libopus", 48_000, bit_rate=32_000, encoding="opus"),
    "opus": Kind(None, "libopus", 48_000, bit_rate=24_000, encoding="opus"),
}


def encode(samples: np.ndarray, kind: Kind) -> list[bytes]:
    """int16 (n,) or (channels, n) at 16 kHz as one piece, or as packets."""
    packets: list[bytes] = []
    out = io.BytesIO()
    container = av.open(out, "w", format=kind.container, options=kind.options) if kind.container else None
    layout = "stereo" if kind.channels == 2 else "mono"
    if container:
        stream = container.add_stream(kind.codec, rate=kind.rate, layout=layout)
        context = stream.codec_context
    else:
        context = AudioCodecContext.create(kind.codec, "w")
        context.sample_rate, context.layout, context.format = kind.rate, layout, "s16"
        context.time_base = Fraction(1, kind.rate)
    if kind.bit_rate:
        context.bit_rate = kind.bit_rate
    given = np.broadcast_to(samples, (kind.channels, samples.shape[-1]))
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(given.T).reshape(1, -1), "s16", layout)
    frame.sample_rate = RATE
    context.open()
    resampler = av.AudioResampler(context.format.name, layout, kind.rate, context.frame_size or 0)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        for packet in context.encode(piece):
            packets.append(bytes(packet))
            if container:
                packet.stream = stream
                container.mux(packet)
    if container is None:
        return packets
    container.close()
    return [out.getvalue()]
