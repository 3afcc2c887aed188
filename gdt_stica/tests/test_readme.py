from __future__ import annotations

import re
from pathlib import Path

from gdt_stica.config import HYPOTHESES
from gdt_stica.quirks import markdown_table
from ssvideo_core.testing.readme import Readme

README = Readme(Path(__file__).parents[1], "gdt_stica")


def test_names_of_the_paper_and_files_exist() -> None:
    assert len(README.names) > 5
    assert len(README.test_files) > 3
    assert README.missing() == []


def test_the_table_of_quirks_is_the_codes() -> None:
    assert markdown_table() in README.text


def test_the_hypotheses_are_the_codes() -> None:
    found = dict(re.findall(r"\| (\d) \| (\w+) ", README.text))
    assert found == {str(number): name for number, name in enumerate(HYPOTHESES, 1)}
