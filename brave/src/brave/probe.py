"""The online linear probe: what frozen features of a checkpoint are worth, while training goes on.

It is the paper's evaluation with fewer clips of each training video, and of the run's own size:
the part of a picture that a clip shows is the paper's.

RUN/probe.jsonl     a line for each checkpoint: step, top_1_test, …
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ssvideo_core.checkpoint_files import CHECKPOINTS, is_complete, newest_first
from ssvideo_core.checkpoints import load_checkpoint
from ssvideo_core.config import to_json
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.runs import append_json_line

from brave.backbones import backbone_variables
from brave.checkpoints import NARROW
from brave.encoders import NarrowBackbone
from brave.evaluation import Facts, check_videos, evaluate
from brave.experiment_settings import ExperimentSettings, record_of
from brave.records import LabelledVideos

POLL_S = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe:
    """Labelled shards, checked, and how clips of them are made."""

    settings: ExperimentSettings
    train: LabelledVideos
    test: LabelledVideos
    facts: Facts
    workers: int

    def __call__(self, tensors: Mapping[str, Any], device: jax.Device) -> dict[str, float]:
        """The accuracies of a narrow backbone, top_1_train to top_5_test, fractions.

        tensors: "params/MODULE/NAME" and "state/MODULE/NAME"; those of other networks are ignored.
        """
        starts = (f"params/{NARROW}", f"state/{NARROW}")
        narrow = {name: array for name, array in tensors.items() if name.startswith(starts)}
        config, view, pixels = self.settings, self.settings.narrow, self.settings.clip.pixels
        assert pixels is not None, "the narrow view is of pictures"
        with jax.default_device(device):
            backbone = NarrowBackbone(backbone_variables(narrow, "rgb"), config.architecture)
            found = evaluate(
                backbone,
                self.train,
                self.test,
                facts=self.facts,
                C=config["experiment.probe_svm_regularization"],
                batch_size=config["experiment.probe_batch_size"],
                num_frames=2 * view.num_frames,
                step=view.step,
                size=view.image_size,
                short_side=pixels.short_side,
                epochs=config["experiment.probe_epochs"],
                seed=config["random_seed"],
                workers=self.workers,
            )
        return found.ranks.accuracies


def make_probe(settings: ExperimentSettings, *, workers: int = 0) -> Probe:
    """Raises ConfigError without both patterns of shards, and what `check_videos` raises."""
    patterns = [settings[f"experiment.probe_{part}_shards"] for part in ("train", "test")]
    if not all(patterns):
        raise ConfigError(
            "the linear probe needs shards with labels: give "
            "--config.experiment.probe_train_shards='DIR/train/*' and "
            "--config.experiment.probe_test_shards='DIR/test/*'"
        )
    train, test = (LabelledVideos(one) for one in patterns)
    return Probe(settings, train, test, check_videos(train, test, workers=workers), workers)


def check_run(settings: ExperimentSettings, folder: Path) -> None:
    """Raise ConfigError for a folder that is no run, or one of other networks, views or length."""
    path = folder / "config.json"
    try:
        stored = dict(json.loads(path.read_text())["config"])
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} is no run (there is no config.json); train first, or give it"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a run's record ({error}); give another folder") from None
    wanted = to_json(record_of(settings, None, {}))
    differing = [
        f"{name}: {stored.get(name)!r} there, {value!r} now"
        for name, value in wanted.items()
        if _decides(name) and stored.get(name) != value
    ]
    if differing:
        raise ConfigError(
            f"{folder} was made with other settings ({'; '.join(differing)}). Give its own: the "
            f"command in {folder / 'command.txt'} with --jaxline_mode=eval"
        )


def _decides(name: str) -> bool:
    """Whether a key of config.json decides what is probed."""
    networks = name.startswith("model_") and name != "model_dataset_shards"
    return networks or name in ("training_steps", "random_seed")


def probe_run(probe: Probe, folder: Path, device: jax.Device) -> None:
    """Probe each checkpoint that a run has and gets, until that of its last step is done.

    Those that are there already in the order of their steps, except the ones in RUN/probe.jsonl.
    """
    logger.info("run: %s", folder)
    done, waits = probed_steps(folder), False
    if done:
        logger.info(
            "steps %s are in %s; remove their lines to probe them again, as with other shards",
            ", ".join(map(str, sorted(done))),
            folder / "probe.jsonl",
        )
    while True:
        # Listed anew each time: training removes old ones.
        step, checkpoint = next(_left(folder, done), (0, None))
        if checkpoint is not None:
            probe_checkpoint(probe, folder, checkpoint, device)
            done.add(step)
        elif max(done, default=0) >= probe.settings["training_steps"]:
            return
        else:
            if not waits:
                total = probe.settings["training_steps"]
                logger.info("waiting for checkpoints of this run until its step %d", total)
            waits = True
            time.sleep(POLL_S)


def probe_checkpoint(probe: Probe, folder: Path, checkpoint: Path, device: jax.Device) -> None:
    """Add the line of one checkpoint to RUN/probe.jsonl."""
    try:
        found = load_checkpoint(checkpoint)
    except DataError as error:
        # Training removes all but its last checkpoints, also while one is read here.
        logger.info("%s; waiting for another one", error)
        return
    names = {
        f"{part}/{name}": array
        for part in ("params", "state")
        for name, array in found.state[part].items()
    }
    values = probe(names, device)
    logger.info("step %d: %s", found.step, values)
    append_json_line(folder / "probe.jsonl", {"step": found.step, **values})


def probed_steps(folder: Path) -> set[int]:
    """The steps in RUN/probe.jsonl; a line that a kill has cut is made again."""
    path = folder / "probe.jsonl"
    steps: set[int] = set()
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError, KeyError, TypeError):
            steps.add(int(json.loads(line)["step"]))
    return steps


def _left(folder: Path, done: Collection[int]) -> Iterator[tuple[int, Path]]:
    """The complete checkpoints of steps that are not done, oldest first."""
    for step, path in reversed(newest_first(folder / CHECKPOINTS)):
        if step not in done and is_complete(path):
            yield step, path
