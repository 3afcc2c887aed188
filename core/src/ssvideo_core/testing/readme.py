"""What a method's README says about its own code, so that tests can compare the two."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PAPER = "## The paper in the code"


@dataclass(frozen=True)
class Readme:
    """The README.md of a package. folder: of the package; import_name: of its Python package."""

    folder: Path
    import_name: str

    @cached_property
    def text(self) -> str:
        return (self.folder / "README.md").read_text(encoding="utf-8")

    @property
    def names(self) -> list[str]:
        """The dotted names in the section `PAPER`, such as "gdt_stica.objective.nce"."""
        section = self.text.partition(PAPER)[2].partition("\n## ")[0]
        return sorted(set(re.findall(rf"`({self.import_name}\.[\w.]+)`", section)))

    @property
    def test_files(self) -> list[str]:
        """The test files that are named anywhere, such as "tests/plain.py"."""
        return sorted(set(re.findall(r"`(tests/\w+\.py)`", self.text)))

    def missing(self) -> list[str]:
        """Names of `names` and `test_files` that there are not."""
        files = [file for file in self.test_files if not (self.folder / file).exists()]
        return [name for name in self.names if not _exists(name)] + files


def _exists(name: str) -> bool:
    module, _, member = name.rpartition(".")
    return hasattr(importlib.import_module(module), member)
