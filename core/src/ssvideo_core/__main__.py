"""`python -m ssvideo_core`: what needs no method."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ssvideo_core.errors import EXIT_OK, EXIT_USER, exit_code

USAGE = """usage: python -m ssvideo_core COMMAND [--help]

  check-data  compare a data set on disk with what it should be"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return EXIT_OK if words else EXIT_USER
    if words[0] != "check-data":
        print(f"no command '{words[0]}'\n{USAGE}", file=sys.stderr)
        return EXIT_USER
    from ssvideo_core.commands import run_check_data

    prog = "ssvideo_core check-data"
    return exit_code(prog, lambda: run_check_data(words[1:], prog=prog))


if __name__ == "__main__":
    raise SystemExit(main())
