from __future__ import annotations

import json
import sys

from shared_eval.cli import main


def test_methods_are_listed(add_method, capsys) -> None:
    add_method("colour_b")
    add_method("colour_a")
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out.split("\n\n")
    entry = "\n".join(
        [
            "colour_a (numpy, arXiv 0000.00000): Mean colour",
            "  encoder rgb: mean",
            "  weights good (rgb): licence CC-BY 4.0",
        ]
    )
    assert entry in shown
    names = [text.split()[0] for text in shown]
    assert names == sorted(names)


def test_methods_of_other_environments(add_method, capsys) -> None:
    add_method("colour_a")
    words = [
        "methods",
        "--json",
        "--python",
        f"colour_a={sys.executable}",
        f"nothing={sys.executable}",
    ]
    assert main(words) == 2
    record = json.loads(capsys.readouterr().out)
    assert record["methods"]["colour_a"]["weights"][0]["licence"] == "CC-BY 4.0"
    assert "has no method 'nothing'" in record["failures"]["nothing"]


def test_a_broken_method_does_not_hide_the_others(add_method, capsys) -> None:
    add_method("colour_a")
    add_method("colour_b", method="import absent_framework")
    assert main(["methods"]) == 2
    shown = capsys.readouterr().out
    assert "colour_a (numpy" in shown
    assert "colour_b: colour_b describe: exit code 1" in shown
    assert "absent_framework" in shown
