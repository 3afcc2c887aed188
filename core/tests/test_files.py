from __future__ import annotations

from pathlib import Path

import pytest
from ssvideo_core.files import remove_leftovers, replacing, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_bytes() == b"before"
    with replacing(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"


def test_clearing_left_overs_does_not_disturb_a_second_finisher(tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    path.write_bytes(b"same")
    with replacing(path) as file:
        file.write(b"same")
        remove_leftovers(tmp_path)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("features.json", b"same")
    ]
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "absent") as file:
        remove_leftovers(tmp_path)


def test_write_text_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.txt", "two")]
