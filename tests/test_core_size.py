"""core stays small: what only one package uses belongs to that package."""

from __future__ import annotations

from pathlib import Path

CORE_LINES = 4500
NOXFILE_LINES = 150
CONFIG_LINES = 150


def lines_of_code(file: Path) -> int:
    """Lines that are neither blank nor only a comment; docstrings count."""
    return sum(
        1 for line in file.read_text().splitlines() if line.strip() and line.strip()[0] != "#"
    )


def test_core_size(root: Path) -> None:
    folder = root / "core/src/ssvideo_core"
    files = [f for f in folder.rglob("*.py") if "testing" not in f.relative_to(folder).parts]
    assert sum(map(lines_of_code, files)) <= CORE_LINES


def test_short_files(root: Path) -> None:
    assert len((root / "noxfile.py").read_text().splitlines()) < NOXFILE_LINES
    assert lines_of_code(root / "core/src/ssvideo_core/config.py") <= CONFIG_LINES
