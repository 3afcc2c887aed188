"""core stays small: what only one package uses belongs to that package."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

CORE_LINES = 5800
# Leaves that no other part of core is built on: each kind of file that is read adds its own lines.
LEAVES = {"formats": 2000, "weights": 800}
NOXFILE_LINES = 150
CONFIG_LINES = 150
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def lines_of_code(text: str) -> int:
    """Lines that hold code: not blank, not only a comment, not part of a docstring."""
    lines: set[int] = set()
    statement_starts = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        docstring = statement_starts and token.type == tokenize.STRING
        if token.type not in NO_CODE | {tokenize.ENDMARKER} and not docstring:
            lines.update(range(token.start[0], token.end[0] + 1))
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            statement_starts = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return len(lines)


def test_core_size(root: Path) -> None:
    folder = root / "core/src/ssvideo_core"
    limits = {"": CORE_LINES, **LEAVES}
    counts = dict.fromkeys(limits, 0)
    for file in folder.rglob("*.py"):
        part = file.relative_to(folder).parts[0]
        if part != "testing":
            counts[part if part in LEAVES else ""] += lines_of_code(file.read_text())
    assert all(counts[part] <= limit for part, limit in limits.items()), counts


def test_short_files(root: Path) -> None:
    assert len((root / "noxfile.py").read_text().splitlines()) < NOXFILE_LINES
    config = root / "core/src/ssvideo_core/config.py"
    assert lines_of_code(config.read_text()) <= CONFIG_LINES


def test_what_counts() -> None:
    text = '"""Two\nlines."""\n\n# no\nx = """a\nb"""\n\n\ndef f():\n    """Doc."""\n    return 1\n'
    assert lines_of_code(text) == 4
