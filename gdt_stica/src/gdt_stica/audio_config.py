"""The flags of `audio-svm`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssvideo_core.command_flags import read_options
from ssvideo_core.config import option

from gdt_stica.flags import check_numbers

# Clips of a file: how many, and where the last one starts; the others are spread before it.
CLIPS = {"esc50": (10, 3.0), "dcase2014": (60, 29.0)}


@dataclass(frozen=True)
class AudioSVM:
    """Linear SVM on frozen features of sound, for ESC-50, DCASE 2014 and lists of your own.

    A file's score is the mean of the decision values of its clips of 2 s. ESC-50: 5 folds, each the
    test set once. The spectrograms are those the weights were trained with.
    """

    weights: str = option(help="published name, file, folder of a run, or 'random'")
    root_dir: Path = option(
        help="ESC-50-master; a folder with train/ and test/ of files such as bus01.wav; or a CSV "
        "with columns file, label, fold",
        flags=("--root_dir", "--root-dir"),
    )
    dataset: str = option("esc50", help="which data set", choices=tuple(CLIPS))
    C: float = option(1.0, help="of the SVM", flags=("--C",))
    standardize: bool = option(False, help="scale features to mean 0 and deviation 1")
    num_clips: int | None = option(None, help="of a file (esc50: 10, dcase2014: 60)")
    last_start_s: float | None = option(None, help="start of the last clip (esc50: 3, dcase: 29)")
    clip_s: float = option(2.0, help="seconds of a clip")
    output: str = option("embedding", help="embedding, projection or a layer's name")
    architecture: dict[str, Any] | None = option(
        None,
        help="options of the network; aud_spec_type=2,z_normalize=false is how the original's "
        "older revision tested",
        read=read_options,
    )
    seed: int = option(0, help="of the SVM's order, the intervals and random weights")
    device: str = option("cpu", help="where the network runs", operational=True)
    batch_size: int = option(32, help="clips per step", operational=True)
    workers: int = option(0, help="processes that decode", operational=True)
    download: bool = option(False, help="fetch published weights if absent", operational=True)
    out: Path | None = option(None, help="folder for results.jsonl and features", operational=True)
    protocol: str = option(
        "audio-svm", help="the only one; for `evaluate --protocol`", choices=("audio-svm",)
    )

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("C", "clip_s", "batch_size", "num_clips"),
            not_negative=("last_start_s", "seed", "workers"),
        )

    @property
    def clips(self) -> int:
        """Clips of a file."""
        return CLIPS[self.dataset][0] if self.num_clips is None else self.num_clips

    @property
    def last_start(self) -> float:
        """Seconds at which a file's last clip starts."""
        return CLIPS[self.dataset][1] if self.last_start_s is None else self.last_start_s
