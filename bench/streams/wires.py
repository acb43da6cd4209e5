"""What each server's client sends, and how the text of a stream is put together from what the server answers.

No sockets, no clock: one object a stream, fed with the server's messages in order. `text` is all that the stream's user has
before them, `committed` the part of it that the server has marked as done with.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Message = dict[str, Any]
Pcm = npt.NDArray[np.int16]


SAME_OUTPUT = 1
"""WhisperLive completes a segment after this many repetitions and two. With its client's default of 10, a CPU is not done
before the next sentence begins, and sentences run into each other in the buffer. One stream on a shared core: final lag p95
17.4 s with 10 and 1.9 s with 1, WER 33 % and 41 % of 27 words."""


class Refused(Exception):
    """The server is full and said so at the start."""


class ServerError(Exception):
    """The server reported an error in its protocol."""


class Wire(ABC):
    path: ClassVar[str] = "/"
    goodbye: ClassVar[str | bytes]
    """Sent after the last audio."""
    drains: ClassVar[bool] = True
    """Whether the server still answers for audio it holds after `goodbye`. One that does not is left to go quiet first."""

    def __init__(self) -> None:
        self.finals: list[str] = []
        self.running = ""

    @property
    def committed(self) -> str:
        return " ".join(self.finals)

    @property
    def text(self) -> str:
        return f"{self.committed} {self.running}".strip()

    def greeting(self) -> str | None:
        """What the client says first, if anything."""
        return None

    @abstractmethod
    def ready(self, message: Message) -> bool:
        """Whether audio may be sent. Raises Refused, ServerError."""

    def audio(self, samples: Pcm) -> bytes:
        """16 kHz mono as the server wants it."""
        return samples.astype("<i2").tobytes()

    @abstractmethod
    def take(self, message: Message) -> None:
        """Raises ServerError."""

    def over(self, frame: str | bytes) -> bool:
        """Whether nothing follows, for a server that leaves the closing to its client. Asked at every frame: cheap."""
        return False


class Native(Wire):
    """Ours (docs/protocol.md): an interim replaces the one before, a final ends its segment."""

    path = "/ws/v1/transcribe"
    goodbye = '{"type":"close_stream"}'

    def __init__(self) -> None:
        super().__init__()
        self._ended = 0

    def ready(self, message: Message) -> bool:
        return message["type"] == "ready"

    def take(self, message: Message) -> None:
        match message["type"]:
            case "interim" if message["segment"] > self._ended:
                self.running = message["transcript"]
            case "final":
                self._ended, self.running = message["segment"], ""
                if message["transcript"]:
                    self.finals.append(message["transcript"])
            case "error":
                raise ServerError(message["error"]["message"])
            case _:
                pass


class WhisperLive(Wire):
    """WhisperLive 0.10.0, as its own client has it (whisper_live/client.py).

    `Client.on_open` sends the settings; those here are its defaults but SAME_OUTPUT. A message repeats the last segments:
    `StreamingTranscriptionClient._dispatch_transcript` keeps each completed one once, by start, end and text, and takes
    the last one, if it is not completed, for the running text. Audio is float32 (`send`). After END_OF_AUDIO the server
    drops what it has not decoded (server.py, `recv_audio` and `cleanup`), hence `Client.wait_before_disconnect`, and
    `drains` here.
    """

    goodbye = b"END_OF_AUDIO"
    drains = False

    def __init__(self) -> None:
        super().__init__()
        self._kept: set[tuple[str, str, str]] = set()

    def greeting(self) -> str:
        settings = {
            "uid": str(id(self)),
            "language": "en",
            "task": "transcribe",
            "model": "nano",
            "use_vad": True,
            "send_last_n_segments": 10,
            "no_speech_thresh": 0.45,
            "clip_audio": False,
            "same_output_threshold": SAME_OUTPUT,
        }
        return json.dumps(settings)

    def ready(self, message: Message) -> bool:
        if message.get("status") == "WAIT":
            raise Refused
        self._raise(message)
        return message.get("message") == "SERVER_READY"

    def audio(self, samples: Pcm) -> bytes:
        return (samples.astype(np.float32) / 32768).tobytes()

    def take(self, message: Message) -> None:
        self._raise(message)
        segments = message.get("segments")
        if not segments:
            return
        for s in segments:
            key = (s["start"], s["end"], s["text"])
            if s["completed"] and key not in self._kept:
                self._kept.add(key)
                self.finals.append(s["text"].strip())
        self.running = "" if segments[-1]["completed"] else segments[-1]["text"].strip()

    @staticmethod
    def _raise(message: Message) -> None:
        if message.get("status") == "ERROR" or message.get("message") == "DISCONNECT":
            raise ServerError(str(message.get("message")))


class WhisperLiveKit(Wire):
    """WhisperLiveKit 0.2.26, as its own client has it (whisperlivekit/test_client.py).

    Every message holds the whole transcript: the text is that of `lines`, then `buffer_transcription`
    (`TranscriptionResult.text`); `committed_text` is the lines alone. An empty frame ends the audio, `ready_to_stop` the
    answers (`transcribe_audio`); the server needs `--pcm-input`, told by `useAudioWorklet` in its first message.
    """

    path = "/asr?language=en"
    goodbye = b""

    def ready(self, message: Message) -> bool:
        if message.get("type") == "config" and not message["useAudioWorklet"]:
            raise ServerError("the server was not started with --pcm-input")
        return message.get("type") == "config"

    def take(self, message: Message) -> None:
        if message.get("error"):
            raise ServerError(message["error"])
        if "lines" not in message:
            return
        self.finals = [line["text"].strip() for line in message["lines"] if line.get("text")]
        self.running = message.get("buffer_transcription", "").strip()

    def over(self, frame: str | bytes) -> bool:
        return "ready_to_stop" in str(frame[:100])


class Loop(Wire):
    """Of `bench/streams/loop_server.py`: each message is the text of the running buffer; `final` empties it."""

    goodbye = "end"

    def ready(self, message: Message) -> bool:
        return message.get("ready", False)

    def take(self, message: Message) -> None:
        if "text" not in message:
            return
        self.running = "" if message["final"] else message["text"]
        if message["final"] and message["text"]:
            self.finals.append(message["text"])
