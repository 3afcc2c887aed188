"""`shared_eval check-method`: does an installed method keep its contract?"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core import config as configs
from ssvideo_core.config import option
from ssvideo_core.errors import EXIT_OK, EXIT_USER

from shared_eval.drive import command_line, describe_record
from shared_eval.items import find_python, python_of
from shared_eval.schema import problems


@dataclass(frozen=True)
class CheckMethod:
    """Whether a method keeps the contract: its description, then each of its encoders.

    The encoders are tried in the method's own environment on clips of noise: same values again and
    in any batch, wrong arrays and wrong weights refused, a fingerprint. One line a check, PASS or
    FAIL; exit 2 if any fails.
    """

    python: str = option("", help="interpreter of the environment that has the method")
    weights: str = option("random", help="published name, file, or 'random'")
    modality: str = option(
        "", help="one encoder instead of all", choices=("rgb", "flow", "sound"), metavar="MODALITY"
    )


def main(argv: Sequence[str]) -> int:
    """Print the checks of METHOD."""
    parser = configs.make_parser("shared_eval check-method", (CheckMethod.__doc__ or "").strip())
    parser.add_argument("method", metavar="METHOD")
    configs.add_arguments(parser, CheckMethod)
    flags = parser.parse_args(argv)
    if flags.check_only:
        return EXIT_OK
    config = configs.from_namespace(CheckMethod, flags)
    pythons = {flags.method: find_python(config.python)} if config.python else {}
    python = python_of(flags.method, pythons)
    described = check_description(python, flags.method)
    words = [flags.method, "--weights", config.weights]
    words += ["--modality", config.modality] if config.modality else []
    encoders = subprocess.run(
        command_line(python, "ssvideo_core.testing.check_encoder", *words)
    ).returncode
    passed = described and encoders == EXIT_OK
    print(f"{flags.method} {'keeps' if passed else 'does not keep'} the contract")
    return EXIT_OK if passed else EXIT_USER


def check_description(python: Path, method: str) -> bool:
    """Print whether `describe --json` says what it must; a missing method is a ConfigError."""
    found = problems(describe_record(python, method), method)
    for problem in found:
        print(f"FAIL describe: {problem}", flush=True)
    if not found:
        print("PASS describe: every field is there and of its type", flush=True)
    return not found
