from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from gdt_stica.config import HYPOTHESES
from gdt_stica.quirks import markdown_table

FOLDER = Path(__file__).parents[1]
TEXT = (FOLDER / "README.md").read_text()
PAPER = TEXT.partition("## The paper in the code")[2].partition("\n## ")[0]
NAMES = sorted(set(re.findall(r"`(gdt_stica\.[\w.]+)`", PAPER)))
FILES = sorted(set(re.findall(r"`(tests/\w+\.py)`", TEXT)))


def test_the_table_of_quirks_is_the_codes() -> None:
    assert markdown_table() in TEXT


def test_the_hypotheses_are_the_codes() -> None:
    found = dict(re.findall(r"\| (\d) \| (\w+) ", TEXT))
    assert found == {str(number): name for number, name in enumerate(HYPOTHESES, 1)}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_paper_exist(name: str) -> None:
    module, _, member = name.rpartition(".")
    assert hasattr(importlib.import_module(module), member)


@pytest.mark.parametrize("file", FILES)
def test_files_exist(file: str) -> None:
    assert (FOLDER / file).exists()


def test_there_is_something_to_check() -> None:
    assert len(NAMES) > 5
    assert len(FILES) > 3
