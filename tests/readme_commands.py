"""Check every command the READMEs tell a user to type.

A block tagged `bash run` is executed in a copy of the repository; a block tagged `bash needs=WHAT`
needs something that is not here (weights, a data set, minutes), so only its flags are read: each
of our commands in it gets `--check-only`, and each nox session must exist.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```bash(?P<tag>[^\n]*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it is, its tag (`run`, `needs=…` or empty) and its text."""

    file: Path
    line: int
    tag: str
    body: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def find_blocks(file: Path) -> list[Block]:
    text = file.read_text()
    return [
        Block(file, text[: m.start()].count("\n") + 1, m["tag"].strip(), m["body"])
        for m in FENCE.finditer(text)
    ]


def commands(body: str) -> Iterator[list[str]]:
    """The words of each command of a block: joined lines, split at && and at line ends."""
    for line in body.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in ("&&", "||", ";", "|"):
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


def our_packages() -> set[str]:
    return {p.parent.name for p in ROOT.glob("*/src/*/__main__.py")}


def check_flags(words: list[str], sessions: set[str]) -> str | None:
    """None, or what is wrong with one command of a `needs=` block."""
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words[:1] == ["nox"]:
        own = words[1 : words.index("--")] if "--" in words else words[1:]
        asked = {word for word in own if not word.startswith("-")}
        unknown = asked - sessions
        return f"no nox session {sorted(unknown)}" if unknown else None
    if words[:1] == ["torchrun"] and "-m" in words:
        words = ["python", *words[words.index("-m") :]]
    if words[:2] == ["python", "-m"] and words[2].partition(".")[0] in our_packages():
        arguments = words[2:]
    elif words and words[0] in our_packages():
        arguments = words
    else:
        return None
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "--check-only"], capture_output=True, text=True
    )
    return None if done.returncode == 0 else done.stderr.strip()


def nox_sessions() -> set[str]:
    """All sessions; `nox --list --json` would leave out those that do not run by default."""
    nox = [sys.executable, "-m", "nox", "--list", "-f", str(ROOT / "noxfile.py")]
    done = subprocess.run(nox, capture_output=True, text=True, check=True)
    return set(re.findall(r"^[*-] ([\w-]+)", done.stdout, re.MULTILINE))


def copy_repository(target: Path) -> None:
    """Tracked and new files, without what git ignores: running a block leaves no traces here."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_block(block: Block, folder: Path) -> str | None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.body], cwd=folder)
    return None if done.returncode == 0 else f"exit code {done.returncode}"


def main() -> int:
    failures, counted = [], {"run": 0, "needs": 0}
    sessions = nox_sessions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_repository(folder)
        for file in sorted(folder.rglob("*.md")):
            for block in find_blocks(file):
                relative = Block(file.relative_to(folder), block.line, block.tag, block.body)
                if block.tag == "run":
                    print(f"-- run {relative.place}", flush=True)
                    counted["run"] += 1
                    problems = [run_block(relative, folder)]
                elif block.tag.startswith("needs="):
                    counted["needs"] += 1
                    problems = [check_flags(words, sessions) for words in commands(block.body)]
                else:
                    problems = [f"tag '{block.tag}' is neither run nor needs=WHAT"]
                failures += [f"{relative.place}: {p}" for p in problems if p is not None]
    print(f"{counted['run']} blocks run, {counted['needs']} read, {len(failures)} failed")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
