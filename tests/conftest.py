from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = {"brave", "selavi", "gdt_stica", "vicc", "sce"}


@dataclass(frozen=True)
class Package:
    """One package of the repository: its folder and what it installs."""

    folder: Path
    imports: tuple[str, ...]

    @property
    def sources(self) -> list[Path]:
        return sorted((self.folder / "src").rglob("*.py"))


def packages() -> list[Package]:
    found = []
    for file in sorted(ROOT.glob("*/pyproject.toml")):
        if "ssvideo" in tomllib.loads(file.read_text()).get("tool", {}):
            names = sorted(p.parent.name for p in file.parent.glob("src/*/__init__.py"))
            found.append(Package(file.parent, tuple(names)))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "package" in metafunc.fixturenames:
        found = packages()
        metafunc.parametrize("package", found, ids=[p.folder.name for p in found])
