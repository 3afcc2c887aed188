"""`python -m brave`: describe, extract, evaluate, check-data, convert."""

from __future__ import annotations

from collections.abc import Sequence

from ssvideo_core import commands

from brave.method import METHOD


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return commands.main(METHOD, argv)


if __name__ == "__main__":
    raise SystemExit(main())
