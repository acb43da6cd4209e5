"""A thin builder over `onnx.helper`: one method an operator, names made up on the way, weights added once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9
_TWO_GIB = 2 * 1024**3 - 64 * 1024**2  # protobuf's limit for one message, with room for the graph itself

Array = npt.NDArray[Any]
Shape = Sequence[int | str | None]


class Graph:
    """Collects nodes and weights; `save` writes the model, weights beside it when they do not fit one protobuf."""

    def __init__(self, name: str, dtype: npt.DTypeLike = np.float32) -> None:
        self.name = name
        self.dtype = np.dtype(dtype)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0
        self.exact: list[str] = []
        """Nodes that keep their precision when the graph is quantised."""

    @property
    def float_type(self) -> int:
        """The ONNX element type of the graph's floating point tensors."""
        return helper.np_dtype_to_tensor_dtype(self.dtype)

    def input(self, name: str, shape: Shape, element: int | None = None) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, element or self.float_type, list(shape)))
        return name

    def output(self, value: str, name: str, shape: Shape, element: int | None = None) -> None:
        if value != name:
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, element or self.float_type, list(shape)))

    def op(self, kind: str, *inputs: str, outputs: int = 1, named: str = "", **attributes: Any) -> Any:
        """Adds a node; returns its output's name, or a tuple of names for several outputs.

        `named` is the name of an output that shall be one of the graph's without a copy.
        """
        names = [named or f"{kind.lower()}_{self._count}" + (f"_{i}" if i else "") for i in range(outputs)]
        self._count += 1
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def weight(self, name: str, value: Array) -> str:
        """A named weight; floating point values take the graph's dtype."""
        if name not in self._weights:
            value = np.ascontiguousarray(value.astype(self.dtype) if value.dtype.kind == "f" else value)
            self._weights[name] = numpy_helper.from_array(value, name)
        return name

    def const(self, value: Array | np.generic | Sequence[int] | int, dtype: npt.DTypeLike = np.int64) -> str:
        array = np.asarray(value, dtype)
        name = f"const_{self._count}"
        self._count += 1
        self._weights[name] = numpy_helper.from_array(array, name)
        return name

    def linear(self, x: str, name: str, weight: Array, bias: Array | None = None) -> str:
        """`x @ weight.T + bias`, with `weight` as PyTorch stores it: (out, in)."""
        y = self.op("MatMul", x, self.weight(f"{name}.weight_t", weight.T))
        return y if bias is None else self.op("Add", y, self.weight(f"{name}.bias", bias))

    def exact_matmul(self, x: str, matrix: Array) -> str:
        """`x @ matrix` in float32, whatever the graph's dtype and however it is quantised."""
        y = self.op("MatMul", x, self.const(matrix, np.float32))
        self._nodes[-1].name = y
        self.exact.append(y)
        return y

    def conv1d(self, x: str, name: str, weight: Array, bias: Array, stride: int = 1) -> str:
        """A convolution of three steps over (B, T, C), zeros beyond both ends, as one matrix product: (B, T / stride, out).

        `weight` as PyTorch stores it: (out, C, 3). A product is quantised like any other, and does not suffer where T is
        small as ONNX Runtime's convolution does, which makes one product of each row of the batch.
        """
        steps = weight.shape[2]
        assert steps == 3
        padded = self.op("Pad", x, self.const([0, 1, 0, 0, 1, 0]))
        far = np.iinfo(np.int64).max
        shifted = [
            self.op(
                "Slice",
                padded,
                self.const([k]),
                self.const([k - 2 if k < 2 else far]),
                self.const([1]),
                self.const([stride]),
            )
            for k in range(steps)
        ]
        return self.linear(
            self.op("Concat", *shifted, axis=2), name, weight.transpose(0, 2, 1).reshape(len(weight), -1), bias
        )

    def layer_norm(self, x: str, name: str, weight: Array, bias: Array) -> str:
        return self.op(
            "LayerNormalization",
            x,
            self.weight(f"{name}.weight", weight),
            self.weight(f"{name}.bias", bias),
            axis=-1,
            epsilon=1e-5,
        )

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.op("Reshape", x, self.const(shape))

    def build(self) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, list(self._weights.values()))
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="voiceforge"
        )

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = sum(len(t.raw_data) for t in self._weights.values())
        if size > _TWO_GIB:
            data = f"{path.name}.data"
            onnx.save(self.build(), str(path), save_as_external_data=True, location=data, size_threshold=1024)
        else:
            onnx.save(self.build(), str(path))


INT16, INT32, INT64, FLOAT = TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT
