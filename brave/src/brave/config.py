"""The flags of the original commands, one frozen dataclass each, under their original spellings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.config import option

TEST_SHORT_SIDE = 256  # pixels of a test video's shorter side


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
