"""The flags of the original commands, one frozen dataclass each, under their original spellings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError

TEST_SHORT_SIDE = 256  # pixels of a test video's shorter side
MODES = ("train", "eval", "train_eval", "train_eval_multithreaded")
SPLIT = "{split}"  # stands for the name of a split in patterns of shards


def read_splits(text: str) -> tuple[str, ...]:
    """ "1,2,3" to its names, each once."""
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names) or "/" in text:
        raise ValueError(f"'{text}' is not a list of splits such as 1 or 1,2,3")
    return names


@dataclass(frozen=True)
class EvaluateVideoEmbeddings:
    """Linear SVM on frozen features of the narrow video backbone, for HMDB51, UCF101 and alike.

    Prints one line of JSON with top_1_train, top_5_train, top_1_test and top_5_test as fractions;
    all else goes to standard error. Shards are DMVR's, with a label in every record. Of several
    --splits it holds these numbers of each ("splits"), their mean, and what the original's README
    states for published weights under these settings ("published"), given --dataset hmdb51 or
    ucf101.
    """

    checkpoint_path: str = option(
        help=".npy of the original, published name, safetensors, ckpt-STEP or folder of a run",
        flags=("--checkpoint_path", "--checkpoint-path"),
    )
    batch_size: int = option(help="crops per step", flags=("--batch_size", "--batch-size"))
    train_dataset_shards: tuple[str, ...] = option(
        help="quoted pattern of files; {split} in it stands for each of --splits",
        flags=("--train_dataset_shards", "--train-dataset-shards"),
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
    splits: Sequence[str] = option(
        (),
        help="one after the other, such as 1,2,3, with their names in results.jsonl",
        read=read_splits,
        operational=True,
    )
    out: Path | None = option(
        None,
        help="folder for results.jsonl and the features; with it the same command goes on after an "
        "interruption",
        operational=True,
    )
    download: bool = option(False, help="fetch published weights if absent", operational=True)
    protocol: str = option(
        "brave-svm", help="the only one; for `evaluate --protocol`", choices=("brave-svm",)
    )

    def each_split(self) -> list[EvaluateVideoEmbeddings]:
        """One configuration for each split, with its name in `split` and its patterns.

        Raises ConfigError for patterns and names of splits that do not go together.
        """
        patterns = (*self.train_dataset_shards, *self.test_dataset_shards)
        if self.split and self.splits:
            raise ConfigError("--split and --splits are both given; give one of them")
        names = tuple(self.splits) or (self.split,)
        if not names[0] and any(SPLIT in pattern for pattern in patterns):
            raise ConfigError(
                f"a pattern of shards has {SPLIT} in it; say which with --splits 1,2,3"
            )
        for pattern in patterns:
            if len(names) > 1 and SPLIT not in pattern:
                raise ConfigError(
                    f"'{pattern}' are the same shards for all of --splits {','.join(names)}; put "
                    f"{SPLIT} where the name of the split stands"
                )
        return [
            replace(
                self,
                split=name,
                splits=(),
                train_dataset_shards=_of_split(self.train_dataset_shards, name),
                test_dataset_shards=_of_split(self.test_dataset_shards, name),
            )
            for name in names
        ]


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
    num_processes: int | None = option(
        None,
        help="how many there are",
        metavar="N",
        flags=("--num_processes", "--num-processes"),
    )
    process_id: int | None = option(
        None,
        help="which one this is, from 0",
        metavar="I",
        flags=("--process_id", "--process-id"),
    )
    resume_anyway: bool = option(False, help="go on in a folder of other settings")

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"--workers {self.workers}, expected 0 or more")


def _of_split(patterns: Sequence[str], split: str) -> tuple[str, ...]:
    return tuple(pattern.replace(SPLIT, split) for pattern in patterns)
