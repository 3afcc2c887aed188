"""Methods as subprocesses; each of these is a real package in a real process."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from shared_eval.drive import MethodError, command_line, describe, installed, run_method
from ssvideo_core.errors import ConfigError

PYTHON = Path(sys.executable)
MAIN = """
import os, signal, sys
{body}
"""


def main_that(body: str) -> str:
    # `add_method` formats the text with the method's name.
    return MAIN.format(body=body).replace("{", "{{").replace("}", "}}")


def test_describe(add_method) -> None:
    add_method("colour_a")
    found = describe(PYTHON, "colour_a")
    assert (found.name, found.title, found.framework) == ("colour_a", "Mean colour", "numpy")
    assert (found.version, found.arxiv) == ("1", ("0000.00000",))
    assert found.licences == {"good": "CC-BY 4.0"}
    assert found.record["backbones"] == {"rgb": "mean"}
    assert "colour_a" in installed()


def test_no_such_method() -> None:
    with pytest.raises(ConfigError, match=r"has no method 'colour_z'; installed here: .*--python"):
        describe(PYTHON, "colour_z")


def test_no_such_interpreter(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be run .* see --python"):
        describe(tmp_path / "python", "colour_a")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('hello')", "colour_b describe --json printed no JSON"),
        ("print('[1]')", "colour_b describe --json printed list, no object"),
        ("print('{\"schema\": 9}')", "schema is 9, this version reads 1: install versions"),
        ("sys.exit('no GPU')", "exit code 1, its last line: no GPU"),
        ("import absent_framework", "last line: ModuleNotFoundError: .*absent_framework"),
    ],
)
def test_wrong_descriptions(add_method, body: str, message: str) -> None:
    add_method("colour_b", main=main_that(body))
    with pytest.raises(MethodError, match=message):
        describe(PYTHON, "colour_b")


def test_lines_are_shown_with_the_name(add_method, capfd: pytest.CaptureFixture[str]) -> None:
    body = "print('one', sys.argv[1:], flush=True); print('two', file=sys.stderr)"
    add_method("colour_c", main=main_that(body))
    run_method(PYTHON, "colour_c", ["extract", "a b; $(c)"])
    shown = capfd.readouterr()
    assert shown.err == "[colour_c] one ['extract', 'a b; $(c)']\n[colour_c] two\n"
    assert shown.out == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "print('start'); print('colour_d extract: bad\\n  two lines', file=sys.stderr); "
            "sys.exit(2)",
            "colour_d extract: bad\n  two lines",
        ),
        ("sys.exit(2)", "colour_d extract: exit code 2, its last line: it printed nothing"),
        ("1 / 0", "colour_d extract: exit code 1, its last line: ZeroDivisionError: .*"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "colour_d extract was ended by SIGTERM"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"colour_d extract was ended by SIGKILL \(out of memory\?\)",
        ),
    ],
)
def test_failures_keep_the_methods_message(add_method, body: str, message: str) -> None:
    add_method("colour_d", main=main_that(body))
    with pytest.raises(MethodError) as error:
        run_method(PYTHON, "colour_d", ["extract"])
    assert re.fullmatch(message, str(error.value))


def test_the_folder_one_stands_in_is_not_imported(add_method, tmp_path: Path, monkeypatch) -> None:
    add_method("colour_e")
    (tmp_path / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert describe(PYTHON, "colour_e").name == "colour_e"
    assert command_line(PYTHON, "m", "x") == [sys.executable, "-P", "-m", "m", "x"]
