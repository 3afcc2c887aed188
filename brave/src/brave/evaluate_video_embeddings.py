"""`python -m brave.evaluate_video_embeddings`: does this checkpoint score what the paper says?"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.config import option, parse
from ssvideo_core.errors import EXIT_OK, ConfigError, exit_code

PROG = "brave.evaluate_video_embeddings"
TEST_SHORT_SIDE = 256  # pixels, as in `crops`, which is not imported before flags are read


@dataclass(frozen=True)
class EvaluateVideoEmbeddings:
    """Linear SVM on frozen features of the narrow video backbone, for HMDB51, UCF101 and alike.

    Prints one line of JSON with top_1_train, top_5_train, top_1_test and top_5_test as fractions;
    all else goes to standard error. Shards are DMVR's, with a label in every record.
    """

    checkpoint_path: str = option(
        help=".npy of the original, published name, safetensors or folder of a run",
        flags=("--checkpoint_path", "--checkpoint-path"),
    )
    batch_size: int = option(help="crops per step", flags=("--batch_size", "--batch-size"))
    train_dataset_shards: tuple[str, ...] = option(
        help="quoted pattern of files", flags=("--train_dataset_shards", "--train-dataset-shards")
    )
    test_dataset_shards: tuple[str, ...] = option(
        help="quoted pattern of files", flags=("--test_dataset_shards", "--test-dataset-shards")
    )
    svm_regularization: float = option(
        help="C of the SVM; 0.0001 in the paper's table",
        flags=("--svm_regularization", "--svm-regularization"),
    )
    num_video_frames: int = option(
        32, help="frames of a clip", flags=("--num_video_frames", "--num-video-frames")
    )
    video_step: int = option(
        2, help="frames from one to the next", flags=("--video_step", "--video-step")
    )
    image_size: int = option(
        224, help="pixels per side, at most 256", flags=("--image_size", "--image-size")
    )
    train_epochs: int = option(10, help="random clips of each training video")
    seed: int = option(0, help="of the random clips and of the SVM's order")
    device: str = option("", help="cpu or cuda; JAX's own choice if absent", operational=True)
    workers: int = option(0, help="processes that decode", operational=True)
    dataset: str = option("", help="its name in results.jsonl, such as hmdb51", operational=True)
    split: str = option("", help="its name in results.jsonl, such as 1", operational=True)
    out: Path | None = option(
        None, help="folder for results.jsonl and the features", operational=True
    )
    protocol: str = option(
        "brave-svm", help="the only one; for `evaluate --protocol`", choices=("brave-svm",)
    )


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
