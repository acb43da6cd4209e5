"""A Whisper server as one writes it first: `python -m bench.streams.loop_server MODEL --port N --threads N`.

Each stream has a buffer that grows. Whenever there is more of it, all of it is decoded again in a worker thread and its text
is sent; after a second of silence the text is final and the buffer starts anew. faster-whisper with its defaults (beam of 5,
fallback to higher temperatures) and its Silero VAD.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.vad import get_speech_timestamps
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE = 16_000
SILENCE = RATE
"""Samples of it that end an utterance."""
LEAST = RATE // 2
"""Samples in a buffer that are worth a decode."""
LONGEST = 28 * RATE


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
        last = False
        while not last:
            await self._more.wait()
            self._more.clear()
            last = self._ended
            size = len(self._buffer) // 2
            if size < LEAST and not last:
                continue
            audio = np.frombuffer(bytes(self._buffer[: 2 * size]), np.int16).astype(np.float32) / 32768
            text, done = await asyncio.to_thread(self._decode, audio)
            del self._buffer[: 2 * done]
            if text:
                await ws.send(json.dumps({"text": text, "final": last or done > 0}))

    def _decode(self, audio: npt.NDArray[np.float32]) -> tuple[str, int]:
        """The text of the buffer, and how many of its samples are done with."""
        speech: list[dict[str, Any]] = get_speech_timestamps(audio)
        if not speech:
            return "", max(0, len(audio) - SILENCE)  # what may be the beginning of a word stays
        begin, end = speech[0]["start"], speech[-1]["end"]
        segments, _ = self._model.transcribe(audio[begin:end], language="en")
        text = " ".join(s.text.strip() for s in segments)
        return text, len(audio) if len(audio) - end >= SILENCE or len(audio) >= LONGEST else 0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    model = WhisperModel(args.model, device="cpu", compute_type="int8", cpu_threads=args.threads)

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
