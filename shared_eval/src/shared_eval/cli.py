"""Which command there is; each is a module with `main(argv)`, imported when it is asked for."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ssvideo_core.errors import EXIT_OK, EXIT_USER, exit_code

COMMANDS = {
    "methods": ("shared_eval.methods", "installed methods, their weights, licences, protocols"),
    "run": ("shared_eval.run", "features and numbers of several methods on one data set"),
    "compare": ("shared_eval.compare", "results of several runs and papers in one table"),
    "check-method": ("shared_eval.check_method", "whether a method keeps the contract"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. User errors print one message and return 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return EXIT_OK if words else EXIT_USER
    if words[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"shared_eval: no command '{words[0]}'; there is {known}", file=sys.stderr)
        return EXIT_USER
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        module = importlib.import_module(COMMANDS[words[0]][0])
        return exit_code(f"shared_eval {words[0]}", lambda: int(module.main(words[1:])))
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _usage() -> str:
    rows = [f"  {name:<14}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(["usage: python -m shared_eval COMMAND [--help]", "", *rows])
