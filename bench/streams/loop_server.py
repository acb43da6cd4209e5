"""A Whisper server as one writes it first: `python -m bench.streams.loop_server MODEL --port N`.

Each stream has a buffer that grows. Whenever there is more of it, the utterance in it is decoded again in a worker thread
and its text is sent; after half a second of silence the text is final and the buffer goes on after it. faster-whisper with
its defaults (beam of 5, fallback to higher temperatures) and its Silero VAD.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE = 16_000
VAD = VadOptions(min_silence_duration_ms=500, speech_pad_ms=200)
"""Its own default is a pause of two seconds: utterances would run into each other."""
KEPT = RATE
"""Samples of silence that stay: they may be the beginning of a word."""
LEAST = RATE // 2
"""Samples in a buffer that are worth a decode."""
LONGEST = 28 * RATE
"""Samples; Whisper's window is 30 s."""


class Stream:
    def __init__(self, model: WhisperModel) -> None:
        self._model = model
        self._buffer = bytearray()
        self._more = asyncio.Event()
        self._ended = False

    def heard(self, frame: bytes) -> None:
        self._buffer += frame
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    async def run(self, ws: ServerConnection) -> None:
        while len(self._buffer) > 1 or not self._ended:
            await self._more.wait()
            last = self._ended
            if not last:
                self._more.clear()
            size = len(self._buffer) // 2
            if size < (1 if last else LEAST):
                continue
            audio = np.frombuffer(bytes(self._buffer[: 2 * size]), np.int16).astype(np.float32) / 32768
            text, done = await asyncio.to_thread(self._decode, audio)
            if last and not done:
                done = len(audio)
            del self._buffer[: 2 * done]
            if text:
                await ws.send(json.dumps({"text": text, "final": done > 0}))

    def _decode(self, audio: npt.NDArray[np.float32]) -> tuple[str, int]:
        """The text of the first utterance in the buffer, and how many samples are done with: none before it is over."""
        speech: list[dict[str, Any]] = get_speech_timestamps(audio, VAD)
        if not speech:
            return "", max(0, len(audio) - KEPT)
        begin, end = speech[0]["start"], speech[0]["end"]
        segments, _ = self._model.transcribe(audio[begin:end], language="en")
        text = " ".join(s.text.strip() for s in segments)
        return text, end if end < len(audio) or end - begin >= LONGEST else 0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="decodes at a time")
    args = parser.parse_args()
    model = WhisperModel(args.model, device="cpu", compute_type="int8", cpu_threads=args.threads, num_workers=args.workers)

    async def handle(ws: ServerConnection) -> None:
        stream = Stream(model)
        await ws.send('{"ready":true}')
        decoding = asyncio.create_task(stream.run(ws))
        try:
            async for frame in ws:
                if frame == "end":
                    stream.end()
                    await decoding
                    return
                stream.heard(frame)
        except ConnectionClosed:
            pass
        finally:
            decoding.cancel()

    async with serve(handle, "127.0.0.1", args.port, compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
