"""`python -m brave.evaluate_video_embeddings`: does this checkpoint score what the paper says?"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ssvideo_core.config import parse
from ssvideo_core.errors import EXIT_OK, ConfigError, exit_code
from ssvideo_core.interruption import ending_at_once

from brave.config import TEST_SHORT_SIDE, EvaluateVideoEmbeddings

if TYPE_CHECKING:
    from brave.checkpoints import Checkpoint
    from brave.encoders import NarrowBackbone
    from brave.evaluation import Evaluation, Facts
    from brave.records import LabelledVideos

PROG = "brave.evaluate_video_embeddings"

_LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = parse(EvaluateVideoEmbeddings, argv, prog=PROG)
    # Without a folder it cannot go on, and a job that starts again each time would never end.
    return exit_code(
        PROG,
        lambda: _run(config) if config.out is None else _run_resumable(config),
        resumes=config.out is not None,
    )


def _run_resumable(config: EvaluateVideoEmbeddings) -> int:
    with ending_at_once():
        return _run(config)


def _run(config: EvaluateVideoEmbeddings) -> int:
    _check(config)
    splits = config.each_split()
    from brave import evaluation_results
    from brave.checkpoints import read_checkpoint
    from brave.encoders import load_narrow_backbone
    from brave.records import LabelledVideos

    videos = [
        (LabelledVideos(one.train_dataset_shards), LabelledVideos(one.test_dataset_shards))
        for one in splits
    ]
    checkpoint = read_checkpoint(config.checkpoint_path, download=config.download)
    backbone = load_narrow_backbone(checkpoint, device=config.device or None)
    checked = [_checked(one, *parts) for one, parts in zip(splits, videos, strict=True)]
    if config.out is not None:
        evaluation_results.prepare(config.out)
    found = {
        one.split: _evaluate(one, *parts, facts, backbone, checkpoint, reuse=len(splits) > 1)
        for one, parts, facts in zip(splits, videos, checked, strict=True)
    }
    stated = evaluation_results.published_numbers(config, checkpoint)
    if stated:
        numbers = ", ".join(f"{percent:g} (split {split})" for split, percent in stated.items())
        _LOG.info("the original's README, with C = 0.0001: top-1 in percent is %s", numbers)
    print(json.dumps(evaluation_results.summary(found, config, checkpoint)), flush=True)
    return EXIT_OK


def _checked(config: EvaluateVideoEmbeddings, train: LabelledVideos, test: LabelledVideos) -> Facts:
    from brave.evaluation import check_videos

    if config.split:
        _LOG.info("split %s", config.split)
    return check_videos(train, test, workers=config.workers)


def _evaluate(
    config: EvaluateVideoEmbeddings,
    train: LabelledVideos,
    test: LabelledVideos,
    facts: Facts,
    backbone: NarrowBackbone,
    checkpoint: Checkpoint,
    *,
    reuse: bool,
) -> dict[str, float]:
    """The accuracies of one split, stored where --out says.

    Features on the way are kept there until the end. reuse: take accuracies from there when an
    earlier run has stored those of the same everything; the features of each of several splits have
    a folder of their own.
    """
    from brave import evaluation_results

    if config.split:
        _LOG.info("split %s", config.split)
    compute = partial(_compute, config, train, test, facts, backbone)
    if config.out is None:
        return compute(unfinished=None).ranks.accuracies
    unfinished = evaluation_results.unfinished_folder(facts, config=config, checkpoint=checkpoint)
    known = None
    if reuse or unfinished.exists():  # it may have been stored just before the end
        known = evaluation_results.known_accuracies(facts, config=config, checkpoint=checkpoint)
    if known is None:
        found = compute(unfinished=unfinished)
        folder = config.out / f"split_{config.split}" if reuse else config.out
        evaluation_results.store(folder, found, config=config, checkpoint=checkpoint)
        known = found.ranks.accuracies
    else:
        _LOG.info("taken from %s", config.out / "results.jsonl")
    evaluation_results.remove(unfinished)
    return known


def _compute(
    config: EvaluateVideoEmbeddings,
    train: LabelledVideos,
    test: LabelledVideos,
    facts: Facts,
    backbone: NarrowBackbone,
    *,
    unfinished: Path | None,
) -> Evaluation:
    import jax
    from ssvideo_core.progress import ProgressLines

    from brave import evaluation

    with jax.default_device(backbone.device):
        return evaluation.evaluate(
            backbone,
            train,
            test,
            facts=facts,
            C=config.svm_regularization,
            batch_size=config.batch_size,
            num_frames=config.num_video_frames,
            step=config.video_step,
            size=config.image_size,
            epochs=config.train_epochs,
            seed=config.seed,
            workers=config.workers,
            progress=ProgressLines(),
            unfinished=unfinished,
        )


def _check(config: EvaluateVideoEmbeddings) -> None:
    """Raise ConfigError for a number that makes no sense."""
    for name, low, high in (
        ("batch_size", 1, None),
        ("num_video_frames", 1, None),
        ("video_step", 1, None),
        ("image_size", 1, TEST_SHORT_SIDE),
        ("train-epochs", 1, None),
        ("workers", 0, None),
        ("seed", 0, 2**32 - 1),  # what scikit-learn takes
    ):
        value = getattr(config, name.replace("-", "_"))
        if value < low or (high is not None and value > high):
            above = "or more" if high is None else f"to {high}"
            raise ConfigError(f"--{name} is {value}, expected {low} {above}")
    C = config.svm_regularization
    if not (math.isfinite(C) and C > 0):
        raise ConfigError(f"--svm_regularization is {C}, expected a number above 0, such as 0.0001")


if __name__ == "__main__":
    raise SystemExit(main())
