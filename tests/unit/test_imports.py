"""Who may import what: the pure stays pure, and foreign libraries come in by one door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PURE = ["frontend/audio", "frontend/speech", "frontend/text", "frontend/protocols"]
IMPURE = {
    "asyncio", "websockets", "tritonclient", "grpc", "time", "datetime", "socket", "ssl", "select", "selectors",
    "threading", "multiprocessing", "subprocess", "random", "secrets", "os", "logging", "pathlib", "http", "urllib",
    "sqlalchemy", "sqlite3", "redis", "uvicorn", "starlette", "httpx", "prometheus_client",
}  # fmt: skip


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, anywhere in it; relative ones keep their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, level=level):
                yield "." * level + (module or "")
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module")):
                yield "?"


def top(module: str) -> str:
    return module.split(".")[0]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(*PURE), ids=name)
def test_a_pure_module_imports_no_io_no_clock_and_no_chance(path: Path):
    modules = set(imports(path))
    assert not {top(m) for m in modules} & IMPURE
    assert "?" not in modules, "imports by a computed name cannot be checked"


@pytest.mark.parametrize("path", sources(*PURE), ids=name)
def test_a_pure_module_imports_only_pure_modules_of_ours(path: Path):
    allowed = (*(p.replace("/", ".") for p in PURE), "frontend.errors")
    ours = [m for m in imports(path) if top(m) in {"frontend", "export", "tests", ""}]
    assert all(m.startswith(allowed) for m in ours), ours


@pytest.mark.parametrize("path", sources(*PURE), ids=name)
def test_a_pure_module_neither_prints_nor_opens_nor_awaits(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.Global)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "open", "input"}


def test_one_file_imports_the_triton_client():
    found = [name(p) for p in sources("frontend", "export") if any(top(m) == "tritonclient" for m in imports(p))]
    assert found == ["frontend/inference/triton.py"]


def test_the_errors_import_nothing_of_ours():
    assert all(top(m) in sys.stdlib_module_names for m in imports(ROOT / "frontend/errors.py"))


@pytest.mark.parametrize("path", sources("export/engine"), ids=name)
def test_the_engine_needs_nothing_of_ours_outside_itself(path: Path):
    # The exporter copies the package into a model repository; on Triton's machine there is nothing else of ours.
    carried = {"numpy", "onnxruntime", "tokenizers", "triton_python_backend_utils", "whisper_engine"}
    for module in imports(path):
        relative = module.startswith(".") and not module.startswith("..")
        assert relative or top(module) in sys.stdlib_module_names | carried, module


@pytest.mark.parametrize("path", sources("frontend/embedded/onnxruntime"), ids=name)
def test_the_backend_stand_in_needs_nothing_of_ours(path: Path):
    assert not any(top(m) in {"frontend", "export"} or m.startswith(".") for m in imports(path))


def test_nothing_that_serves_needs_torch():
    served = [p for p in sources("frontend", "export") if "nano" not in p.parts]
    assert not [name(p) for p in served if any(top(m) in {"torch", "transformers"} for m in imports(p))]
