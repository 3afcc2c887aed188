"""`python -m sixth_method`: describe, extract, recipes, evaluate and the other subcommands."""

from __future__ import annotations

from collections.abc import Sequence

from ssvideo_core import commands

from sixth_method.method import METHOD


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    return commands.main(METHOD, argv)


if __name__ == "__main__":
    raise SystemExit(main())
