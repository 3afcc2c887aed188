"""`python -m gdt_stica.main_gdt`: train GDT."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from ssvideo_core import config as configs
from ssvideo_core.errors import exit_code
from ssvideo_core.interruption import ending_at_once

from gdt_stica.config import MainGDT

PROG = "gdt_stica main_gdt"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the flags, then train; returns the exit code, 75 after an interruption."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(PROG, lambda: _train(words))


def _train(words: Sequence[str]) -> int:
    config = configs.parse(MainGDT, words, prog=PROG)
    with ending_at_once():  # importing PyTorch takes seconds
        from gdt_stica.run import run_gdt

        return run_gdt(config, ["python", "-m", "gdt_stica.main_gdt", *words])


if __name__ == "__main__":
    raise SystemExit(main())
