"""`python -m gdt_stica.eval_video`: fine-tune on HMDB51 or UCF101, and test."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from ssvideo_core import config as configs
from ssvideo_core.errors import exit_code
from ssvideo_core.interruption import ending_at_once

from gdt_stica.eval_config import EvalVideo

PROG = "gdt_stica eval_video"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the flags, then fine-tune; returns the exit code, 75 after an interruption."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(PROG, lambda: _evaluate(words))


def _evaluate(words: Sequence[str]) -> int:
    config = configs.parse(EvalVideo, words, prog=PROG)
    with ending_at_once():  # importing PyTorch takes seconds
        from gdt_stica.eval_run import run_eval

        return run_eval(config, ["python", "-m", "gdt_stica.eval_video", *words])


if __name__ == "__main__":
    raise SystemExit(main())
