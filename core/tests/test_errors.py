from __future__ import annotations

from pathlib import Path

import pytest
from ssvideo_core.errors import DataError, exit_code


def raising(error: BaseException):
    def action() -> int:
        raise error

    return action


def test_what_a_command_returns_is_its_code() -> None:
    assert exit_code("prog", lambda: 0) == 0


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("a.csv is empty"), 2, "prog: a.csv is empty"),
        (IsADirectoryError(21, "Is a directory", "runs"), 2, "prog: runs: Is a directory; give"),
        (KeyboardInterrupt(), 75, "prog: interrupted; the same command goes on"),
    ],
)
def test_user_errors_are_one_message(error, code: int, message: str, capsys) -> None:
    assert exit_code("prog", raising(error)) == code
    shown = capsys.readouterr().err
    assert shown.startswith(message)
    assert shown.count("\n") == 1


def test_a_command_that_keeps_nothing_says_so(capsys) -> None:
    assert exit_code("prog", raising(KeyboardInterrupt()), resumes=False) == 75
    assert capsys.readouterr().err == (
        "prog: interrupted; the same command starts from the beginning\n"
    )


@pytest.mark.parametrize("error", [ValueError("x"), OSError("no path in it")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_code("prog", raising(error))


def test_real_paths(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below", tmp_path / ("long" * 100)):
        assert exit_code("prog", lambda path=path: path.mkdir() or 0) == 2
        assert str(path) in capsys.readouterr().err
