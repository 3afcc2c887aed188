from __future__ import annotations

from pathlib import Path

from brave.quirks import markdown_table
from ssvideo_core.testing.readme import Readme

README = Readme(Path(__file__).parents[1], "brave")


def test_names_of_the_paper_and_files_exist() -> None:
    assert len(README.names) > 10
    assert len(README.test_files) > 5
    assert README.missing() == []


def test_the_table_of_quirks_is_the_codes() -> None:
    assert markdown_table() in README.text
