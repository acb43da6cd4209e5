"""Torch's zip files, read without torch: every layout of a tensor, and nothing that a pickle might do."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from export.pickled import UnreadablePickle, index, read

BASE = torch.arange(24, dtype=torch.float32).reshape(4, 6)
TENSORS = {
    "whole": BASE,
    "transposed": BASE.T,
    "row": BASE[2],
    "part": BASE[1:3, 2:5],
    "every other": BASE[:, ::2],
    "broadcast": torch.ones(1).expand(3),
    "scalar": torch.tensor(2.5),
    "half": BASE.half(),
    "bfloat16": (BASE / 7).bfloat16(),
    "double": BASE.double(),
    "integers": torch.arange(5),
    "parameter": torch.nn.Parameter(BASE * 2),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


def test_every_layout_of_a_tensor_is_read_as_torch_reads_it(file: Path):
    torch.save(TENSORS, file)
    found = index(file)
    assert set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(read(file, found[name]), tensor.detach().float().numpy(), err_msg=name)


def test_what_is_no_tensor_is_passed_over(file: Path):
    torch.save({"weight": BASE, "epoch": 7, "name": "x"}, file)
    assert list(index(file)) == ["weight"]


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/should-not-exist",)


def test_a_pickle_that_runs_code_is_refused_and_runs_none(file: Path):
    torch.save({"weight": BASE, "surprise": Evil()}, file)
    with pytest.raises(UnreadablePickle, match=r"it names posix\.system"):
        index(file)
    assert not Path("/tmp/should-not-exist").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch.load", "os.system", "torch._utils._rebuild_sparse_tensor"])
def test_every_other_name_is_refused(name: str, file: Path):
    module, attribute = name.rsplit(".", 1)
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(UnreadablePickle, match=name):
        index(file)


def test_a_file_of_an_older_torch_is_told(file: Path):
    torch.save({"weight": BASE}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(UnreadablePickle, match=r"older than torch 1\.6"):
        index(file)


def test_a_view_beyond_its_storage_is_refused(file: Path):
    torch.save({"weight": BASE}, file)
    with zipfile.ZipFile(file) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(file, "w") as out:
        for name, content in parts.items():
            out.writestr(name, content[:-4] if "/data/" in name else content)
    with pytest.raises(UnreadablePickle, match="beyond its storage"):
        read(file, index(file)["weight"])


def test_a_list_of_tensors_is_no_checkpoint(file: Path):
    torch.save([BASE], file)
    with pytest.raises(UnreadablePickle, match="no weights by name"):
        index(file)


@given(st.binary(max_size=60))
def test_any_bytes_in_place_of_the_index_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("any") / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("archive/data.pkl", content)
    with contextlib.suppress(UnreadablePickle):
        index(path)


def test_opcodes_that_call_need_a_callable_that_was_let_in(file: Path):
    """What the pickle builds by itself (lists, tuples, numbers) is harmless; a call needs a name."""
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", pickle.dumps({"weight": [1, 2, (3, "x")]}))
    assert index(file) == {}
