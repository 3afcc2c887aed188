"""`python -m brave.experiment --config=brave/config.py`: train BraVe."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence

from ssvideo_core.config import add_arguments, from_namespace, make_parser
from ssvideo_core.errors import EXIT_OK, exit_code
from ssvideo_core.interruption import ending_at_once

from brave.config import Experiment

PROG = "brave.experiment"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the flags, then train; returns the exit code, 75 after an interruption."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(PROG, lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    parser = make_parser(PROG, inspect.cleandoc(Experiment.__doc__ or ""))
    add_arguments(parser, Experiment)
    namespace, overrides = parser.parse_known_args(words)
    flags = from_namespace(Experiment, namespace)
    from brave.config_files import find_config, load_config
    from brave.experiment_settings import check_one_source, settings_of

    config = load_config(find_config(flags.config), overrides)
    if flags.seed is not None:
        config["random_seed"] = flags.seed
    settings = settings_of(config)
    check_one_source(settings, flags.videos)
    if namespace.check_only:
        return EXIT_OK
    with ending_at_once():  # importing JAX takes seconds
        from brave.run import run_experiment

        return run_experiment(settings, flags, ["python", "-m", "brave.experiment", *words])


if __name__ == "__main__":
    raise SystemExit(main())
