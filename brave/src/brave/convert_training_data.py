"""`python -m brave convert-data`: videos to the shards that training and evaluation read.

Core's command under this package's name; its defaults are what training reads (25 frames a second,
shorter side 256, sound at 48 kHz). `examples/write_training_data.py` does it in Python.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ssvideo_core.__main__ import convert_data
from ssvideo_core.errors import exit_code

PROG = "brave convert-data"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return exit_code(PROG, lambda: convert_data(words, PROG))


if __name__ == "__main__":
    raise SystemExit(main())
