"""A Python-based `onnxruntime` backend for the embedded Triton, whose wheel carries no native one.

It loads `1/model.onnx` of a model with `backend: "onnxruntime"` from the same `config.pbtxt` that the native backend
of the NGC image takes: dynamic batching, and a sequence batcher with implicit state. The Python backend always sees
state inputs at their initial value, so state is kept here, by correlation id, for as long as the sequence may be idle.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

START, END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
USAGE_S = 0.5
"""Between looks at what the process uses."""


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        session = ort.SessionOptions()
        session.intra_op_num_threads = int(options.get("intra_op_thread_count", 1))
        session.inter_op_num_threads = int(options.get("inter_op_thread_count", 1))
        session.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(str(path), session, providers=["CPUExecutionProvider"])
        self.inputs = [t["name"] for t in config["input"]]
        self.outputs = [t["name"] for t in config["output"]]
        batching = config.get("sequence_batching") or {}
        self.states = batching.get("state", [])
        self.idle_s = int(batching.get("max_sequence_idle_microseconds", 0)) / 1e6
        self.zeros = {s["input_name"]: np.zeros([int(d) for d in s["dims"]], np.float32) for s in self.states}
        self.kept = {}  # correlation id -> (state by input name, time of last use)
        self.swept = 0.0
        label = {"model": args["model_name"], "version": args["model_version"], "instance": args["model_instance_name"]}
        gauge, counter = pb_utils.MetricFamily.GAUGE, pb_utils.MetricFamily.COUNTER
        wanted = [
            ("model_cpu_seconds", "CPU time of the model's process", counter),
            ("model_memory_bytes", "Resident memory of the model's process", gauge),
        ]
        if self.states:
            wanted.append(("onnx_sequences", "Streams whose state is kept", gauge))
        self.families = {  # kept: a family must outlive its metrics
            name: pb_utils.MetricFamily(name=f"voiceforge_{name}", description=text, kind=kind)
            for name, text, kind in wanted
        }
        self.metrics = {name: family.Metric(labels=label) for name, family in self.families.items()}
        self.reported, self.measured, self.told = 0.0, 0.0, -1

    def execute(self, requests):
        """Runs requests whose inputs have one shape as one batch; answers in the order asked."""
        responses = [None] * len(requests)
        groups = {}
        for i, request in enumerate(requests):
            tensors = [pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in self.inputs]
            groups.setdefault(tuple(t.shape[1:] for t in tensors), []).append((i, request, tensors))
        for members in groups.values():
            try:
                for i, response in self._run(members):
                    responses[i] = response
            except Exception as error:
                for i, _, _ in members:
                    failure = pb_utils.TritonError(f"onnxruntime: {error}", pb_utils.TritonError.INVALID_ARG)
                    responses[i] = pb_utils.InferenceResponse(error=failure)
        self._report()
        return responses

    def _report(self):
        """Each metric set is a message to tritonserver that is waited for, so none is sent for nothing."""
        if self.states and len(self.kept) != self.told:
            self.told = len(self.kept)
            self.metrics["onnx_sequences"].set(self.told)
        now = time.monotonic()
        if now - self.measured > USAGE_S:
            self.measured, used = now, time.process_time()
            self.metrics["model_cpu_seconds"].increment(used - self.reported)
            self.reported = used
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.metrics["model_memory_bytes"].set(pages * os.sysconf("SC_PAGE_SIZE"))

    def _run(self, members):
        feeds = {n: np.concatenate([tensors[k] for _, _, tensors in members]) for k, n in enumerate(self.inputs)}
        if self.states:
            kept = [self._state(request) for _, request, _ in members]
            feeds |= {n: np.stack([k[n] for k in kept]) for n in self.zeros}
        wanted = self.outputs + [s["output_name"] for s in self.states]
        results = dict(zip(wanted, self.session.run(wanted, feeds), strict=True))
        row = 0
        for i, request, tensors in members:
            n = tensors[0].shape[0]
            if self.states:
                self._keep(request, {s["input_name"]: results[s["output_name"]][row] for s in self.states})
            yield (
                i,
                pb_utils.InferenceResponse([pb_utils.Tensor(name, results[name][row : row + n]) for name in self.outputs]),
            )
            row += n

    def _state(self, request):
        key = request.correlation_id()
        if request.flags() & START or key not in self.kept:
            return self.zeros
        return self.kept[key][0]

    def _keep(self, request, state):
        now, key = time.monotonic(), request.correlation_id()
        if request.flags() & END:
            self.kept.pop(key, None)
        else:
            self.kept[key] = (state, now)
        if now - self.swept > 1.0:
            self.swept = now
            for old in [k for k, (_, used) in self.kept.items() if now - used > self.idle_s]:
                del self.kept[old]
