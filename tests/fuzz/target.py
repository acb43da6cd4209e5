"""`python -m tests.fuzz.target -max_total_time=60`: handshakes, frames and audio bytes, steered by the coverage they reach.

Whatever is sent, the answer is a command, samples, or an error of ours; anything else ends the run with its input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["frontend.protocols", "frontend.audio", "frontend.text"]):
    import numpy as np

    from frontend.audio.channels import Channels
    from frontend.audio.format import ENCODINGS, AudioFormat
    from frontend.audio.sniff import demuxer
    from frontend.errors import VoiceForgeError
    from frontend.protocols.base import Configure, Handshake, Opened
    from frontend.protocols.config import StreamConfig
    from frontend.protocols.deepgram.live import DeepgramAdapter
    from frontend.protocols.deepgram.query import LISTS, NOT_YET, TEXT, ListenQuery
    from frontend.protocols.native import NativeAdapter
    from frontend.protocols.openai.realtime import RealtimeAdapter

NOW = "2026-01-01T00:00:00.000Z"
ADAPTERS = [NativeAdapter(), DeepgramAdapter(), RealtimeAdapter()]
KINDS = [
    "configure", "finalize", "keep_alive", "close_stream", "KeepAlive", "Finalize", "CloseStream", "Configure",
    "session.update", "transcription_session.update", "input_audio_buffer.append", "input_audio_buffer.commit",
    "input_audio_buffer.clear", "response.create", "audio",
]  # fmt: skip
WORDS = [
    "transcription", "realtime", "audio/pcm", "audio/pcmu", "pcm16", "g711_alaw", "server_vad", "semantic_vad", "AAAA", "en",
    "nano", "local_agreement", "align_att", "mark", "true", "numbers", "item.input_audio_transcription.logprobs",
]  # fmt: skip
NAMES = sorted({*StreamConfig.model_fields, *ListenQuery.model_fields, *NOT_YET, *TEXT, *LISTS, "intent", "model"})
FIELDS = [
    *NAMES, "config", "session", "audio", "input", "format", "rate", "type", "transcription", "turn_detection", "threshold",
    "prefix_padding_ms", "silence_duration_ms", "noise_reduction", "include", "input_audio_format",
    "input_audio_transcription", "event_id", "features", "processors", "keyterms", "channel", "data",
]  # fmt: skip


def value(data: atheris.FuzzedDataProvider, depth: int) -> Any:
    match data.ConsumeIntInRange(0, 8 if depth else 5):
        case 0:
            return data.PickValueInList(WORDS)
        case 1:
            return data.ConsumeInt(4)
        case 2:
            return data.ConsumeFloat()
        case 3:
            return data.PickValueInList([None, True, False, "", [], {}])
        case 4 | 5:
            return data.ConsumeUnicodeNoSurrogates(12)
        case 6:
            return [value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))]
        case _:
            return {data.PickValueInList(FIELDS): value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))}


def message(data: atheris.FuzzedDataProvider) -> dict[str, Any]:
    """JSON with the names that a protocol knows."""
    fields = {data.PickValueInList(FIELDS): value(data, 4) for _ in range(data.ConsumeIntInRange(0, 3))}
    return {"type": data.PickValueInList(KINDS), **fields}


def talk(data: atheris.FuzzedDataProvider) -> None:
    """A handshake and some frames."""
    adapter = data.PickValueInList(ADAPTERS)
    query = {data.PickValueInList(NAMES): [data.ConsumeUnicodeNoSurrogates(20)] for _ in range(data.ConsumeIntInRange(0, 4))}
    handshake = Handshake(adapter.paths[0], query, {"authorization": data.ConsumeUnicodeNoSurrogates(20)}, ())
    adapter.key(handshake)
    try:
        wire = adapter.wire(handshake)
    except VoiceForgeError as error:
        adapter.refusal(error, "0")
        return
    wire.opened(Opened("0", "nano", {}, NOW), NOW)
    while data.remaining_bytes():
        kind, n = data.ConsumeIntInRange(0, 3), data.ConsumeIntInRange(0, 200)
        frame = json.dumps(message(data)) if kind > 1 else data.ConsumeUnicodeNoSurrogates(n)
        frame = data.ConsumeBytes(n) if kind == 0 else frame
        try:
            for command in wire.parse(frame):
                if isinstance(command, Configure):
                    wire.configured("nano", NOW)
        except VoiceForgeError as error:
            wire.failed(error, NOW)


def listen(data: atheris.FuzzedDataProvider) -> None:
    """Raw audio in any format and any cut; and what the first bytes of a container look like."""
    try:
        encoding, rate = data.PickValueInList(list(ENCODINGS)), data.ConsumeIntInRange(0, 60_000)
        form = AudioFormat(encoding, rate, data.ConsumeIntInRange(0, 17))
    except VoiceForgeError:
        return
    rest = data.ConsumeBytes(data.remaining_bytes())
    demuxer(rest)
    if not form.raw:
        return
    channels = Channels(form, apart=form.channels > 1)
    cut = len(rest) // 3
    for piece in (rest[:cut], rest[cut : 2 * cut], rest[2 * cut :]):
        for samples in channels.feed(piece):
            assert samples.dtype == np.int16
    channels.flush()


def one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    (talk if provider.ConsumeIntInRange(0, 3) else listen)(provider)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
