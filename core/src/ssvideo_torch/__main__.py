"""`python -m ssvideo_torch`: what needs PyTorch, but no method."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ssvideo_core.errors import EXIT_OK, EXIT_USER, exit_code

USAGE = """usage: python -m ssvideo_torch COMMAND [--help]

  export  features as the .pth files that SCE's commands read"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return EXIT_OK if words else EXIT_USER
    if words[0] != "export":
        print(f"no command '{words[0]}'\n{USAGE}", file=sys.stderr)
        return EXIT_USER
    from ssvideo_torch import export

    return exit_code("ssvideo_torch export", lambda: export.main(words[1:], "ssvideo_torch export"))


if __name__ == "__main__":
    raise SystemExit(main())
