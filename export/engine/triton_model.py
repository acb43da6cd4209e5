"""The Triton Python model `whisper_<m>`: glue between requests, the encoder model and the scheduler.

Request, one stream per correlation id, behind the sequence batcher:
  audio         INT16 (1, n)   new audio of the window, n may be 0; START empties the window first
  command       INT32 (1, 1)   1 partial: decode the window so far; 2 final: the same, ahead of waiting partials and with
                               the care a final deserves; 3 reset: empty the window, answer at once
  prefix        INT32 (1, n)   optional: tokens of the hypothesis that are settled, forced at its beginning
  context       INT32 (1, n)   optional: tokens of what was said before, as a prompt
  language      STRING (1, 1)  optional, for multilingual checkpoints: a code, or `auto`
  task          STRING (1, 1)  optional: transcribe or translate
  alternatives  INT32 (1, 1)   optional: up to so many for each word of low probability
Response: tokens, token_logprobs, text, words, word_tokens (how many tokens each is made of), word_times (samples from
the window's start), word_probabilities, word_alternatives (JSON: [[text, probability], …] each),
no_speech_probability, language, language_probability, temperature, window_samples, timings_ms (queue, encode, decode).

`execute` appends audio and has the encoder model run for the windows of equal length together (a BLS call must be made
from `execute`); the scheduler's thread decodes and answers through each request's response sender. On a GPU that thread
encodes too, so that nothing crosses processes between audio and text.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from whisper_engine.confidence import Calibrator
from whisper_engine.growing import Growing, sessions
from whisper_engine.jobs import Hypothesis, Job
from whisper_engine.scheduler import Scheduler
from whisper_engine.slots import Place, Slots
from whisper_engine.usage import cpu_seconds, memory_bytes
from whisper_engine.vocabulary import Vocabulary
from whisper_engine.windows import RATE, Stream, Streams

PARTIAL, FINAL, RESET = 1, 2, 3
USAGE_S = 0.5
"""Between looks at what the processes use."""
START, END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END


def _string(request: Any, name: str, default: str) -> str:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return tensor.as_numpy().reshape(-1)[0].decode() if tensor is not None else default


def _numbers(request: Any, name: str) -> list[int]:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return tensor.as_numpy().reshape(-1).tolist() if tensor is not None else []


def _number(request: Any, name: str) -> int:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return int(tensor.as_numpy().reshape(-1)[0]) if tensor is not None else 0


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        options = {k: v["string_value"] for k, v in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self.encoder, self.encoder_batch = options["encoder"], int(options["encoder_batch"])
        self.buckets = [round(float(s) * RATE) for s in options["windows_s"].split(",")]
        self.padding = round(float(options.get("padding_s", 0)) * RATE)
        generation = json.loads((folder / "generation_config.json").read_text("utf-8"))
        self.vocabulary = Vocabulary(folder / "tokenizer.json", generation, multilingual=options["multilingual"] == "true")
        self.encodes = options.get("slots") == "true"
        """The batch encodes too; else the encoder is a model of its own."""
        self.max_rows = max_rows = int(options.get("max_rows", 32))
        batch = self._slots(args, options, folder, max_rows) if self.encodes else self._growing(args, options, folder)
        self.scheduler = Scheduler(batch, self.vocabulary, max_rows, Calibrator.load(folder))
        self.temperatures = tuple(float(t) for t in options.get("temperatures", "0").split(","))
        self.beam_size = int(options.get("beam_size", 1))
        self.takes_context = options.get("context") == "true"
        idle_s = int(config["sequence_batching"]["max_sequence_idle_microseconds"]) / 1e6
        self.streams = Streams(self.buckets[-1], idle_s)
        label = {
            "model": args["model_name"], "version": args["model_version"], "instance": args["model_instance_name"]
        }  # fmt: skip
        gauge, counter = pb_utils.MetricFamily.GAUGE, pb_utils.MetricFamily.COUNTER
        self.families = {  # kept: a family must outlive its metrics
            name: pb_utils.MetricFamily(name=f"voiceforge_{name}", description=text, kind=kind)
            for name, text, kind in (
                ("sequences", "Streams whose audio window the engine holds", gauge),
                ("decode_steps", "Decode steps run, each one token for every row", counter),
                ("decode_row_steps", "Tokens decoded over all rows; divided by steps: the mean batch", counter),
                ("decode_slots", "Rows that are decoded together at the most", gauge),
                ("decode_seconds", "Time that the decode thread did not wait for work", counter),
                ("model_cpu_seconds", "CPU time of the model's process", counter),
                ("model_memory_bytes", "Resident memory of the model's process", gauge),
                ("tritonserver_cpu_seconds", "CPU time of tritonserver itself, told by each engine", counter),
                ("tritonserver_memory_bytes", "Resident memory of tritonserver itself, told by each engine", gauge),
            )
        }
        self.metrics = {name: family.Metric(labels=label) for name, family in self.families.items()}
        # Triton keeps a counter when the model is loaded anew; tritonserver itself goes on
        self.reported = {"tritonserver_cpu_seconds": cpu_seconds(os.getppid())}
        self.measured, self.told = 0.0, -1

    def _growing(self, args: dict[str, str], options: dict[str, str], folder: Path) -> Growing:
        providers = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            providers.insert(0, "CUDAExecutionProvider")
        graphs = sessions(folder, providers, threads=int(options.get("decode_threads", 1)))
        return Growing(graphs["cross"], graphs["decoder"], self.vocabulary)

    def _slots(self, args: dict[str, str], options: dict[str, str], folder: Path, max_rows: int) -> Slots:
        index = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else 0
        threads = int(options.get("decode_threads", 1))
        at = Place(options["device"], index, threads, cuda_graphs=options["cuda_graphs"] == "true")
        encoder = Path(args["model_repository"]).parent / self.encoder / args["model_version"] / "model.onnx"
        return Slots(
            folder, encoder, at, max_rows=max_rows, most_at_once=self.encoder_batch, longest_window=self.buckets[-1]
        )

    def finalize(self) -> None:
        self.scheduler.stop()

    def execute(self, requests: list[Any]) -> None:
        now = time.perf_counter()
        self.streams.sweep(now)
        windows: dict[int, list[tuple[Any, Any, Stream, np.ndarray, bool]]] = {}
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._accept(request, sender, now, windows)
            except (ValueError, KeyError) as error:
                text = str(error) if isinstance(error, ValueError) else f"no stream {error}: send START first"
                self._fail(sender, text, pb_utils.TritonError.INVALID_ARG)
        for group in windows.values():
            group.sort(key=lambda entry: not entry[-1])  # finals first
            if self.encodes:
                for request, sender, stream, window, final in group:
                    self._decode(request, sender, stream, window, final, 0.0)
            else:
                for i in range(0, len(group), self.encoder_batch):
                    self._encode(group[i : i + self.encoder_batch])
        self._report()

    def _accept(self, request: Any, sender: Any, now: float, windows: dict[int, list[Any]]) -> None:
        key, flags = request.correlation_id(), request.flags()
        stream = self.streams.open(key, now, start=bool(flags & START))
        if flags & END:
            self.streams.close(key)
        command = _number(request, "command")
        if command not in (PARTIAL, FINAL, RESET):
            raise ValueError(f"command {command} is not 1 (partial), 2 (final) or 3 (reset)")
        if command == RESET:
            stream.clear()
            self._answer(sender, Hypothesis([], [], "", 0.0), 0, 0.0)
            return
        self._prefix(request)  # first: a refused request must not leave its audio behind
        stream.append(pb_utils.get_input_tensor_by_name(request, "audio").as_numpy().reshape(-1).copy())
        if stream.n_samples == 0:
            self._answer(sender, Hypothesis([], [], "", 0.0), 0, 0.0)
            return
        window = stream.window(self.buckets, self.padding)
        windows.setdefault(len(window), []).append((request, sender, stream, window, command == FINAL))

    def _encode(self, group: list[tuple[Any, Any, Stream, np.ndarray, bool]]) -> None:
        began = time.perf_counter()
        audio = np.stack([window for _, _, _, window, _ in group])
        response = pb_utils.InferenceRequest(
            model_name=self.encoder,
            requested_output_names=["hidden_states"],
            inputs=[pb_utils.Tensor("audio", audio)],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if response.has_error():
            for _, sender, _, _, _ in group:
                self._fail(sender, f"{self.encoder}: {response.error().message()}", pb_utils.TritonError.UNAVAILABLE)
            return
        hidden = pb_utils.get_output_tensor_by_name(response, "hidden_states").as_numpy()
        encode_ms = (time.perf_counter() - began) * 1000
        for i, (request, sender, stream, _, final) in enumerate(group):
            self._decode(request, sender, stream, hidden[i].copy(), final, encode_ms)

    def _decode(self, request: Any, sender: Any, stream: Stream, window: np.ndarray, final: bool, encode_ms: float) -> None:
        """`window` as the batch takes it: hidden states, or PCM where it encodes."""
        language = _string(request, "language", "en") if self.vocabulary.multilingual else "en"
        context = _numbers(request, "context") if self.takes_context else []
        try:
            prompt = self.vocabulary.prompt(language, _string(request, "task", "transcribe"), context)
        except ValueError as error:
            self._fail(sender, str(error), pb_utils.TritonError.INVALID_ARG)
            return
        n_samples = stream.n_samples

        def done(result: Hypothesis | Exception) -> None:
            if isinstance(result, Exception):
                self._fail(sender, f"decode failed: {result}", pb_utils.TritonError.INTERNAL)
            else:
                self._answer(sender, result, n_samples, encode_ms or result.encode_ms)

        self.scheduler.submit(
            Job(
                window,
                n_samples,
                prompt,
                self._prefix(request),
                language,
                want_words=True,
                done=done,
                cancelled=sender.is_cancelled,
                urgent=final,
                temperatures=self.temperatures if final else (0.0,),
                beam_size=self.beam_size,
                n_alternatives=_number(request, "alternatives") if final else 0,
            )
        )

    def _prefix(self, request: Any) -> list[int]:
        tokens = _numbers(request, "prefix")
        if not all(map(self.vocabulary.is_text, tokens)):
            raise ValueError(f"prefix holds what is no text token; most are 0 to {self.vocabulary.eot - 1}")
        return tokens

    def _answer(self, sender: Any, h: Hypothesis, n_samples: int, encode_ms: float) -> None:
        def strings(values: list[str]) -> np.ndarray:
            return np.array([[v.encode() for v in values]], np.object_).reshape(1, -1)

        outputs = {
            "tokens": np.array([h.tokens], np.int32).reshape(1, -1),
            "token_logprobs": np.array([h.logprobs], np.float32).reshape(1, -1),
            "words": strings(h.words),
            "word_tokens": np.array([h.word_tokens], np.int32).reshape(1, -1),
            "word_times": np.array([h.word_times], np.int32).reshape(1, -1, 2),
            "word_probabilities": np.array([h.word_probabilities], np.float32).reshape(1, -1),
            "word_alternatives": strings([json.dumps(a) if a else "" for a in h.word_alternatives]),
            "text": strings([h.text]),
            "no_speech_probability": np.array([[h.no_speech_probability]], np.float32),
            "language": strings([h.language]),
            "language_probability": np.array([[h.language_probability]], np.float32),
            "temperature": np.array([[h.temperature]], np.float32),
            "window_samples": np.array([[n_samples]], np.int32),
            "timings_ms": np.array([[h.queue_ms, encode_ms, h.decode_ms]], np.float32),
        }
        response = pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in outputs.items()])
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _fail(self, sender: Any, message: str, code: int) -> None:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _report(self) -> None:
        """Only from `execute`: metrics set from another thread end the server (24.10) under load. Each is a message to
        tritonserver that is waited for, so none is sent for nothing."""
        if len(self.streams) != self.told:
            self.told = len(self.streams)
            self.metrics["sequences"].set(self.told)
        now = time.monotonic()
        if now - self.measured < USAGE_S and self.told:
            return
        self.measured = now
        self.metrics["decode_slots"].set(self.max_rows)
        self._count("decode_steps", self.scheduler.n_steps)
        self._count("decode_row_steps", self.scheduler.n_rows_stepped)
        self._count("decode_seconds", self.scheduler.busy_s)
        for name, pid in (("model", os.getpid()), ("tritonserver", os.getppid())):
            self._count(f"{name}_cpu_seconds", cpu_seconds(pid))
            self.metrics[f"{name}_memory_bytes"].set(memory_bytes(pid))

    def _count(self, name: str, value: float) -> None:
        """`value`: since the model was loaded."""
        self.metrics[name].increment(value - self.reported.get(name, 0))
        self.reported[name] = value
