from __future__ import annotations

from pathlib import Path

from ssvideo_core.testing.readme import Readme

TEXT = """# pathlib

`pathlib.Other` and `tests/test_absent.py`

## The paper in the code

| eq. 1 | `pathlib.Path` | `tests/test_there.py` |
| eq. 2 | `pathlib.Road` | |

## After

`pathlib.Later`
"""


def test_names_and_files_are_looked_up(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(TEXT)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_there.py").touch()
    readme = Readme(tmp_path, "pathlib")
    assert readme.names == ["pathlib.Path", "pathlib.Road"]
    assert readme.test_files == ["tests/test_absent.py", "tests/test_there.py"]
    assert readme.missing() == ["pathlib.Road", "tests/test_absent.py"]
