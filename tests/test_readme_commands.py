from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "readme_commands", Path(__file__).parent / "readme_commands.py"
)
readme = importlib.util.module_from_spec(_spec)
sys.modules["readme_commands"] = readme  # dataclasses look their module up
_spec.loader.exec_module(readme)


def test_blocks_carry_their_tag_and_line(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("# A\n\n```bash run\necho 1\n```\n\n```bash needs=weights\nls\n```\n")
    assert [(b.line, b.tag, b.body) for b in readme.find_blocks(file)] == [
        (3, "run", "echo 1\n"),
        (7, "needs=weights", "ls\n"),
    ]


def test_commands_are_joined_and_split() -> None:
    body = "a --x 1 \\\n  --y 2 && b  # why\n\nc 'two words'\n"
    assert list(readme.commands(body)) == [["a", "--x", "1", "--y", "2"], ["b"], ["c", "two words"]]


def test_every_block_of_the_repository_is_tagged(root: Path) -> None:
    files = [f for f in root.rglob("*.md") if not {".nox", ".venv"} & set(f.parts)]
    assert len(files) > 3
    for file in files:
        for block in readme.find_blocks(file):
            assert block.tag == "run" or block.tag.startswith("needs="), block.place


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nox", "-s", "demo"], None),
        (["nox", "-s", "demo", "--", "-k", "retrieval"], None),
        (["nox", "-s", "nothing"], "no nox session"),
        (["python", "-m", "ssvideo_core", "check-data", "--videos", "X"], None),
        (["python", "-m", "ssvideo_core", "check-data", "--vidoes", "X"], "required"),
        (["torchrun", "--nproc_per_node=2", "-m", "ssvideo_core", "check-data"], "required"),
        (["curl", "--made-up"], None),
    ],
)
def test_flags_are_read(words: list[str], problem: str | None) -> None:
    found = readme.check_flags(words, {"demo"})
    assert found is None if problem is None else problem in found
