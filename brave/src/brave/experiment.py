"""`python -m brave.experiment --config=brave/config.py`: train BraVe."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.config import add_arguments, from_namespace, make_parser, option
from ssvideo_core.errors import EXIT_OK, ConfigError, exit_code

PROG = "brave.experiment"
MODES = ("train", "eval", "train_eval", "train_eval_multithreaded")


@dataclass(frozen=True)
class Experiment:
    """Train BraVe: a narrow and broad views of a clip predict each other.

    The configuration is a Python file with a function get_config; it is executed, so give only
    files that you trust. --config=brave/config.py means the one of this package wherever no such
    file lies. Every key can be changed on the command line, also several:

        --config.model.dataset_shards='/data/train-*' --config.experiment.global_batch_size=64

    All keys, with what they mean: brave/src/brave/configs/config.py. The same command goes on where
    an interrupted one stopped; SIGTERM and SIGUSR1 write a checkpoint and exit with 75.
    """

    config: Path = option(
        Path("brave/config.py"), help="Python file, which is executed", metavar="FILE"
    )
    workdir: Path | None = option(
        None,
        help="the run's folder (default: the key checkpoint_dir)",
        flags=("--workdir", "--out"),
        metavar="DIR",
    )
    videos: Path | None = option(
        None,
        help="folder or CSV list of videos; shards of them, or of their part train if they have "
        "one, are written into the run's folder first",
        metavar="PATH",
    )
    jaxline_mode: str = option(
        "train",
        help="eval: a linear probe of every checkpoint of a run, until its last, with the settings "
        "of its command; the others with train: of each checkpoint right after it is written",
        choices=MODES,
        flags=("--jaxline_mode", "--jaxline-mode"),
    )
    seed: int | None = option(None, help="the key random_seed")
    device: str = option("", help="cpu, cuda, cuda:1, …; JAX's own choice if absent")
    workers: int = option(0, help="processes that decode")
    coordinator: str = option(
        "", help="HOST:PORT of process 0, of several processes without SLURM", metavar="HOST:PORT"
    )
    num_processes: int | None = option(None, help="how many there are", metavar="N")
    process_id: int | None = option(None, help="which one this is, from 0", metavar="I")
    resume_anyway: bool = option(False, help="go on in a folder of other settings")


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
    from brave.experiment_settings import settings_of

    config = load_config(find_config(flags.config), overrides)
    if flags.seed is not None:
        config["random_seed"] = flags.seed
    if flags.workers < 0:
        raise ConfigError(f"--workers {flags.workers}, expected 0 or more")
    settings = settings_of(config)
    if namespace.check_only:
        return EXIT_OK
    from brave.run import run_experiment

    return run_experiment(settings, flags, ["python", "-m", "brave.experiment", *words])


if __name__ == "__main__":
    raise SystemExit(main())
