"""`python -m brave.evaluate_video_embeddings`: does this checkpoint score what the paper says?"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence

from ssvideo_core.config import parse
from ssvideo_core.errors import EXIT_OK, ConfigError, exit_code

from brave.config import TEST_SHORT_SIDE, EvaluateVideoEmbeddings

PROG = "brave.evaluate_video_embeddings"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return exit_code(
        PROG, lambda: _run(parse(EvaluateVideoEmbeddings, argv, prog=PROG)), resumes=False
    )


def _run(config: EvaluateVideoEmbeddings) -> int:
    _check(config)
    import jax
    from ssvideo_core.progress import ProgressLines

    from brave import evaluation, evaluation_results
    from brave.checkpoints import read_checkpoint
    from brave.encoders import load_narrow_backbone
    from brave.records import LabelledVideos

    if config.out is not None:
        evaluation_results.prepare(config.out)
    train = LabelledVideos(config.train_dataset_shards)
    test = LabelledVideos(config.test_dataset_shards)
    checkpoint = read_checkpoint(config.checkpoint_path)
    backbone = load_narrow_backbone(checkpoint, device=config.device or None)
    with jax.default_device(backbone.device):
        found = evaluation.evaluate(
            backbone,
            train,
            test,
            C=config.svm_regularization,
            batch_size=config.batch_size,
            num_frames=config.num_video_frames,
            step=config.video_step,
            size=config.image_size,
            epochs=config.train_epochs,
            seed=config.seed,
            workers=config.workers,
            progress=ProgressLines(),
        )
    print(json.dumps(found.ranks.accuracies), flush=True)
    if config.out is not None:
        evaluation_results.store(config.out, found, config=config, checkpoint=checkpoint)
    return EXIT_OK


def _check(config: EvaluateVideoEmbeddings) -> None:
    """Raise ConfigError for a number that makes no sense."""
    for name, low, high in (
        ("batch_size", 1, None),
        ("num_video_frames", 1, None),
        ("video_step", 1, None),
        ("image_size", 1, TEST_SHORT_SIDE),
        ("train-epochs", 1, None),
        ("workers", 0, None),
        ("seed", 0, None),
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
