"""What the training commands share: their processes, and the record of what made a run.

RUN/config.json, command.txt, environment.json
RUN/left-out.csv        videos that are not used, and why
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ssvideo_core.files import write_text
from ssvideo_core.runs import start_run
from ssvideo_torch.start import Process, start
from ssvideo_torch.training_run import RunSettings

from gdt_stica.flags import ignored_flags

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Launched(Protocol):
    """The flags of a command that say which process of how many this is."""

    @property
    def device(self) -> str: ...
    @property
    def dist_url(self) -> str: ...
    @property
    def local_rank(self) -> int: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def world_size(self) -> int | None: ...


def start_processes(config: Launched) -> AbstractContextManager[Process]:
    """`ssvideo_torch.start.start` by a command's flags; a launcher's variables go first.

    A world of one process, the original's default, needs no rank.
    """
    launched = "RANK" in os.environ or "SLURM_PROCID" in os.environ
    needless = config.rank is None and (launched or config.world_size == 1)
    return start(
        config.device,
        dist_url=config.dist_url,
        local_rank=config.local_rank,
        rank=config.rank,
        world_size=None if needless else config.world_size,
    )


def first_then_others(process: Process, find: Callable[[], T]) -> T:
    """What `find` gives, which the first process calls before the others.

    For finding videos: the first opens every file, the others find the facts in its index.
    """
    first = process.together(lambda: find() if process.is_main else None)
    others = process.together(lambda: None if process.is_main else find())
    found = first if process.is_main else others
    assert found is not None, "every process has its turn"
    return found


def record_run(
    process: Process,
    folder: Path,
    config: Any,
    command: Sequence[str],
    *,
    excluded: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write what makes the run, once for all processes, and say it; every process calls it.

    config: its `resume_anyway` allows a folder of other settings. excluded: video to the reason why
    it is left out. notes: lines to print. Raises ConfigError for a folder of other settings.
    """

    def record() -> None:
        if not process.is_main:
            return
        logger.info("run: %s", folder)
        start_run(folder, config, command, resume_anyway=config.resume_anyway)
        if ignored := ignored_flags(config):
            logger.info("without effect (see --help): %s", " ".join(ignored))
        for note in notes:
            logger.info("%s", note)
        rows = io.StringIO()
        csv.writer(rows).writerows([("video", "reason"), *excluded.items()])
        write_text(folder / "left-out.csv", rows.getvalue())

    process.together(record)


def run_settings(config: Any, folder: Path, **changes: Any) -> RunSettings:
    """What a command's flags of the same names say of its run. changes: other values."""
    names = ("batch_size", "epochs", "seed", "workers", "print_freq", "checkpoint_steps")
    flags = {name: getattr(config, name) for name in (*names, "resume_anyway")}
    return RunSettings(**{"folder": folder, **flags, **changes})
