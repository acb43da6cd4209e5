"""A model repository's graphs in this process, and sessions played to them in virtual time: no server, no waiting.

What a session tells depends on what it hears and when the engine answers; here the answer comes after a given delay of
stream time, so a run is the same on every machine, and an hour of speech takes minutes.
"""

from __future__ import annotations

import heapq
import json
import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from export import triton_config
from export.engine.batch import run
from export.engine.confidence import Calibrator
from export.engine.growing import Growing, sessions
from export.engine.jobs import Hypothesis as Found
from export.engine.jobs import Job
from export.engine.scheduler import Scheduler
from export.engine.vocabulary import Vocabulary
from export.engine.windows import window_length
from frontend.speech.events import Alternative, Decode, Effect, Emit, Event, Hypothesis, RunAsr, RunVad, Timings, Word
from frontend.speech.session import SessionCore
from frontend.speech.settings import SessionSettings
from frontend.speech.vad_gate import FRAME

RATE = 16_000
Pcm = npt.NDArray[np.int16]


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class LocalEngine:
    """`whisper_<model>` and `silero_vad` of a repository. Counts what it did in `n_decodes`, `encoded_s`, `busy_s`."""

    def __init__(self, repository: Path, model: str = "nano", temperatures: Sequence[float] | None = None) -> None:
        version = repository / f"whisper_{model}" / "1"
        config = (repository / f"whisper_{model}" / "config.pbtxt").read_text()

        def parameter(name: str) -> str:
            return config.split(f'key: "{name}" value: {{ string_value: "')[1].split('"')[0]

        self.windows = [round(float(s) * RATE) for s in parameter("windows_s").split(",")]
        self.padding = round(float(parameter("padding_s")) * RATE)
        self.takes_context = parameter("context") == "true"
        self.temperatures = tuple(temperatures or map(float, parameter("temperatures").split(",")))
        self.beam_size = int(parameter("beam_size"))
        generation = json.loads((version / "generation_config.json").read_text())
        self.vocabulary = Vocabulary(
            version / "tokenizer.json", generation, multilingual=parameter("multilingual") == "true"
        )
        graphs = sessions(version, ["CPUExecutionProvider"], 1)
        self.calibrator = Calibrator.load(version)
        growing = Growing(graphs["cross"], graphs["decoder"], self.vocabulary)
        self.scheduler = Scheduler(growing, self.vocabulary, calibrator=self.calibrator)
        self._encoder = _session(repository / f"whisper_{model}_encoder" / "1" / "model.onnx")
        self._vad = _session(repository / "silero_vad" / "1" / "model.onnx")
        self.n_decodes, self.encoded_s, self.busy_s = 0, 0.0, 0.0

    def close(self) -> None:
        self.scheduler.stop()

    def speech_probabilities(self, audio: Pcm) -> list[float]:
        """Of each whole frame."""
        audio = audio[: len(audio) // FRAME * FRAME]
        zeros = {f"state_{n}": np.zeros((1, size), np.float32) for n, size in triton_config.STATES.items()}
        return [float(p) for p in run(self._vad, ["probabilities"], {"audio": audio[None], **zeros})[0][0]]

    def decode(
        self, audio: Pcm, *, prefix: Sequence[int] = (), final: bool = True, language: str = "en", window: int | None = None,
        n_alternatives: int = 0, context: Sequence[int] = (),
    ) -> Found:  # fmt: skip
        """One window, int16 (n,), padded to the smallest length that the model takes, or to `window`; `context` is what was
        said before, for a model that takes it."""
        began = time.perf_counter()
        size = window or window_length(len(audio), self.windows, self.padding)
        padded = np.zeros((1, size), np.int16)
        padded[0, : len(audio)] = audio[:size]
        hidden = run(self._encoder, ["hidden_states"], {"audio": padded})[0][0]
        answer: queue.SimpleQueue[Found | Exception] = queue.SimpleQueue()
        temperatures = self.temperatures if final else (0.0,)
        prompt = self.vocabulary.prompt(language, context=context if self.takes_context else ())
        self.scheduler.submit(
            Job(
                hidden,
                min(len(audio), size),
                prompt,
                list(prefix),
                language,
                True,
                answer.put,
                urgent=final,
                temperatures=temperatures,
                beam_size=self.beam_size,
                n_alternatives=n_alternatives,
            )
        )
        found = answer.get()
        if isinstance(found, Exception):
            raise found
        self.n_decodes, self.encoded_s = self.n_decodes + 1, self.encoded_s + size / RATE
        self.busy_s += time.perf_counter() - began
        return found


def hypothesis(found: Found) -> Hypothesis:
    """As the front end reads it from Triton."""
    words = tuple(
        Word(text, start, end, p, tuple(Alternative(*a) for a in others))
        for text, (start, end), p, others in zip(
            found.words, found.word_times, found.word_probabilities, found.word_alternatives, strict=True
        )
    )
    return Hypothesis(
        found.text, tuple(found.tokens), tuple(found.logprobs), words, tuple(found.word_tokens),
        found.no_speech_probability, found.language, found.language_probability, Timings(),
    )  # fmt: skip


@dataclass
class Told:
    """An event, and how much audio had been sent when it was told, in samples."""

    at: int
    event: Event


@dataclass
class Playing:
    """A recording played to a session in steps of a VAD frame; `delay_s` is how long each decode takes."""

    engine: LocalEngine
    settings: SessionSettings
    delay_s: float = 0.03
    language: str = "en"
    told: list[Told] = field(default_factory=list[Told])

    def play(self, audio: Pcm) -> list[Told]:
        core = SessionCore(self.settings)
        heard = self.engine.speech_probabilities(audio)
        answers: list[tuple[int, int, Any]] = []

        def carry_out(effects: list[Effect], now: int) -> None:
            for effect in effects:
                match effect:
                    case RunVad(start, end):
                        carry_out(core.vad_result(heard[start // FRAME : end // FRAME]), now)
                    case RunAsr():
                        found = self.engine.decode(
                            audio[effect.start : effect.end], prefix=effect.prefix,
                            final=effect.command is Decode.FINAL, language=effect.language or self.language,
                            context=effect.context,
                        )  # fmt: skip
                        heapq.heappush(answers, (now + round(self.delay_s * RATE), len(self.told), hypothesis(found)))
                    case Emit(event):
                        self.told.append(Told(now, event))

        def answer(until: float) -> None:
            while answers and answers[0][0] <= until:
                at, _, found = heapq.heappop(answers)
                carry_out(core.asr_result(found), at)

        for begin in range(0, len(audio), FRAME):
            now = min(begin + FRAME, len(audio))
            answer(now)
            carry_out(core.audio(now - begin), now)
        carry_out(core.close(), len(audio))
        answer(float("inf"))
        assert core.finished
        return self.told
