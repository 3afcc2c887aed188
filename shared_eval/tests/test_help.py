from __future__ import annotations

import json
import subprocess
import sys

import pytest
from shared_eval.cli import COMMANDS, main

HEAVY = {"torch", "jax", "sklearn", "scipy", "matplotlib", "hydra", "av", "PIL"}
CODE = """
import json, sys
from shared_eval.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "loaded": sorted(sys.modules)}))
"""


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words, "--help"], capture_output=True, text=True, check=True
    )
    shown, _, record = done.stdout.rstrip().rpartition("\n")
    assert shown.startswith(f"usage: {' '.join(['shared_eval', *words])}" if words else "usage: ")
    found = json.loads(record)
    assert found["code"] in (0, None)
    assert not HEAVY & set(found["loaded"])


def test_commands_and_flags_that_do_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate"]) == 2
    assert "no command 'evaluate'; there is methods, run, compare, check-method" in (
        capsys.readouterr().err
    )
    assert main([]) == 2
    with pytest.raises(SystemExit) as end:
        main(["run", "--method", "x"])
    assert end.value.code == 2


def test_check_only_reads_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", "--methods", "a@b,c", "--data", "nowhere", "--out", "nothing", "--check-only"]
    for words in (
        run,
        ["compare", "nowhere", "--check-only"],
        ["check-method", "nothing", "--check-only"],
        ["methods", "--check-only"],
    ):
        assert main(words) == 0
    assert capsys.readouterr().out == ""
