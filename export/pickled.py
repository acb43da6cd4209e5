"""Reads `pytorch_model.bin` without torch, and without what makes pickles dangerous.

The file is a zip (torch 1.6 and later): a pickle of names and shapes, and one raw file a storage. The pickle may name only
the few callables below, none of which does anything but describe a tensor; any other name in it is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

BFLOAT16 = "bfloat16"
_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
}


class UnreadablePickle(Exception):
    """The message says what it is instead."""


@dataclass(frozen=True)
class Storage:
    """Raw numbers in the zip: `key` names the file, `size` counts them."""

    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, as torch describes it; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


_CALLABLES: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == "torch" and global_name in _STORAGES:
            return _STORAGES[global_name]
        try:
            return _CALLABLES[module_name, global_name]
        except KeyError:
            raise UnreadablePickle(f"it names {module_name}.{global_name}, which no plain set of weights does") from None

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            case ("storage", str(dtype), str(key), str(), int(size)):
                return Storage(dtype, key, size)
            case _:
                raise UnreadablePickle("it refers to something that is no storage")


def _root(file: zipfile.ZipFile) -> str:
    """The folder inside the zip that everything lies in."""
    found = next((n for n in file.namelist() if n.endswith("/data.pkl")), None)
    if found is None:
        raise UnreadablePickle("it has no data.pkl")
    return found.removesuffix("/data.pkl")


def index(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; their numbers are not read yet. Raises `UnreadablePickle`."""
    if not zipfile.is_zipfile(path):
        raise UnreadablePickle("it is no zip, so older than torch 1.6 or not whole")
    with zipfile.ZipFile(path) as file:
        root = _root(file)
        order = f"{root}/byteorder"
        if order in file.namelist() and file.read(order) != b"little":
            raise UnreadablePickle("it was written on a big-endian machine")
        try:
            with file.open(f"{root}/data.pkl") as data:
                found: Any = _Unpickler(data).load()
        except Exception as error:  # bytes that are no pickle raise nearly everything, MemoryError included
            raise UnreadablePickle(f"its index is damaged ({error})") from None
    if not isinstance(found, dict):
        raise UnreadablePickle("it holds no weights by name")
    named = cast("dict[Any, Any]", found)
    return {str(name): value for name, value in named.items() if isinstance(value, Tensor)}


def widened(raw: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """bfloat16 is unknown to numpy: its 16 bits are the upper half of a float32."""
    return (raw.astype(np.uint32) << 16).view(np.float32)


def read(path: Path, tensor: Tensor) -> npt.NDArray[Any]:
    """The numbers of a tensor, bfloat16 as float32. Raises `UnreadablePickle` for a view beyond its storage."""
    storage = tensor.storage
    with zipfile.ZipFile(path) as file:
        content = file.read(f"{_root(file)}/data/{storage.key}")
    values: npt.NDArray[Any] = np.frombuffer(content, np.uint16 if storage.dtype == BFLOAT16 else storage.dtype)
    if storage.dtype == BFLOAT16:
        values = widened(values)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
    if min((tensor.offset, *tensor.shape, *tensor.stride), default=0) < 0 or last >= len(values):
        raise UnreadablePickle("a tensor lies beyond its storage")
    strides = [s * values.itemsize for s in tensor.stride]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides))
