"""Which package may import which (docs: CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

METHODS = {"brave", "selavi", "gdt_stica", "vicc", "sce"}
PYTORCH = METHODS - {"brave"}
FRAMEWORKS = {"torch", "torchvision", "jax", "jaxlib", "flax", "optax"}
NEVER = {"apex", "dmvr", "decord", "pytorchvideo", "tensorflow"}


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Modules that a file imports anywhere, also inside functions, with the line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def forbidden(name: str) -> set[str]:
    """What the import package `name` must not import."""
    if name == "ssvideo_core":
        return FRAMEWORKS | METHODS | {"ssvideo_torch", "shared_eval"} | NEVER
    if name == "ssvideo_torch":
        return METHODS | {"shared_eval", "jax", "jaxlib", "flax", "optax"} | NEVER
    if name == "shared_eval":
        return METHODS | FRAMEWORKS | {"ssvideo_torch"} | NEVER
    others = (METHODS - {name}) | {"shared_eval"} | NEVER
    return others | ({"torch", "torchvision", "ssvideo_torch"} if name == "brave" else {"jax"})


def breaches(file: Path, name: str) -> list[str]:
    return [
        f"{file.name}:{line} imports {module}"
        for module, line in imported(file)
        if module.partition(".")[0] in forbidden(name)
    ]


def test_import_rule(package) -> None:
    found = []
    for file in package.sources:
        name = file.relative_to(package.folder / "src").parts[0]
        found += breaches(file, name)
    assert not found


@pytest.mark.parametrize(
    ("name", "line", "allowed"),
    [
        ("ssvideo_core", "import torch", False),
        ("ssvideo_core", "def f():\n    from jax import numpy", False),
        ("ssvideo_core", "import numpy", True),
        ("gdt_stica", "from vicc.objective import x", False),
        ("gdt_stica", "import ssvideo_torch.pixels", True),
        ("brave", "import ssvideo_torch", False),
        ("shared_eval", "import gdt_stica", False),
        ("sce", "import pytorchvideo", False),
    ],
)
def test_rule_finds_breaches(tmp_path: Path, name: str, line: str, allowed: bool) -> None:
    file = tmp_path / "module.py"
    file.write_text(line)
    assert (breaches(file, name) == []) is allowed


def test_imports_alone(package) -> None:
    for name in package.imports:
        code = f"import {name}"
        subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=120)


def test_library_code_does_not_import_testing(package) -> None:
    for file in package.sources:
        if "testing" not in file.parts:
            modules = [module for module, _ in imported(file)]
            assert not [m for m in modules if m.startswith("ssvideo_core.testing")], file
