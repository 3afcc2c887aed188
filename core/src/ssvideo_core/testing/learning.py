"""Whether a method learns: a recipe on the embedded data, against the network it began as.

Recipes are tuned on data seed 0; the figures here are of data seeds 1 and 2, three network seeds
each. Features of the trained network are compared with those of the better start: the untrained
network, or the same with the statistics of its batch norms taken from the data. A colour histogram
and training with labels say what the data gives away and what can be learned from it.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from ssvideo_core.datasets.splits import read_splits
from ssvideo_core.evaluate.intervals import paired_difference
from ssvideo_core.evaluate.retrieval import nearest
from ssvideo_core.evaluate.svm import choose_C
from ssvideo_core.extract import embed_videos
from ssvideo_core.files import write_text
from ssvideo_core.methods import Encoder
from ssvideo_core.protocols import SVM_CS, SVM_FOLDS
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.testing.synthetic_scenes import CLASSES

TWO_STANDARD_ERRORS = 0.9545  # level of a normal interval of ± 2 standard errors
CLIPS = 2  # over time, of a video
HISTOGRAM, UNTRAINED, STATISTICS = "colour histogram", "untrained", "untrained, BN of the data"
TRAINED, LABELS = "trained", "trained with labels"


@dataclass(frozen=True)
class Videos:
    """One part of a data set. labels: [V]; groups: the source of each video."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    groups: tuple[str, ...]

    def features(self, encoder: Encoder) -> NDArray[np.float32]:
        """[V, D]: the mean over two clips, at the start and the end, each of length 1."""
        return embed_videos(encoder, self.paths, temporal=CLIPS, spatial=1)


@dataclass(frozen=True)
class Scored:
    """Which test videos were right, [V] bool each: by common-svm, and the nearest neighbour's."""

    svm: NDArray[np.bool_]
    recall_at_1: NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """Scores of one set of features, in percent.

    learner: `Learner.name`. *_gain: over the better start; *_gain_low: less two standard errors.
    """

    learner: str
    data_seed: int
    network_seed: int | None
    features: str
    svm: float
    recall_at_1: float
    svm_gain: float | None = None
    svm_gain_low: float | None = None
    recall_gain: float | None = None
    recall_gain_low: float | None = None
    training_s: float | None = None


@dataclass(frozen=True)
class Learner:
    """What differs between methods.

    name: in tables and of run folders. package: whose `recipe` runs, with `flags` besides. starts:
    from the run's folder and the training part to the untrained encoders by name (`UNTRAINED`,
    `STATISTICS`). load: an encoder from a file. labelled: an encoder trained with labels, from the
    training part and a seed; it shows that the data can be learned by this network at all.
    """

    name: str
    package: str
    load: Callable[[Path], Encoder]
    starts: Callable[[Path, Videos], Mapping[str, Encoder]]
    labelled: Callable[[Videos, int], Encoder]
    recipe: str = "demo"
    flags: tuple[str, ...] = ()
    data_seeds: tuple[int, ...] = (1, 2)
    network_seeds: tuple[int, ...] = (0, 1, 2)

    def run(self, out: Path, data_seed: int, network_seed: int) -> Path:
        """The folder of one run below `out`."""
        return out / f"run-{self.name}-{data_seed}-{network_seed}".replace(" ", "-")


class Seen(Protocol):
    """What a method measures besides, of a run in its folder, on the test part."""

    def __call__(
        self, learner: Learner, run: Path, test: Videos, data_seed: int, network_seed: int
    ) -> None: ...


def show(doc: str, out: Path, learners: Sequence[Learner], *, also: Seen | None = None) -> None:
    """The command of a learn.py: train and score every learner on all its seeds.

    doc: of the script. out: where runs, results.csv and curves.csv lie unless --out says so; runs
    that are there are not repeated. Learning with labels is that of the first learner.
    """
    options = _arguments(doc, out, learners)
    rows: list[Row] = []

    def add(found: Iterable[Row]) -> None:
        for row in found:
            rows.append(row)
            print(row, flush=True)
            write_rows(rows, options.out / "results.csv")

    data_seeds: set[int] = set()
    for data_seed, learner, seed in planned(learners, options):
        if data_seed not in data_seeds:
            data_seeds.add(data_seed)
            add(measure_data(learners[0], options.out, data_seed=data_seed, seed=0))
        add(measure(learner, options.out, data_seed=data_seed, network_seed=seed))
        if also is not None:
            run = learner.run(options.out, data_seed, seed)
            also(learner, run, open_data(options.out, data_seed)[2], data_seed, seed)
    write_curves(options.out, options.out / "curves.csv")


def _arguments(doc: str, out: Path, learners: Sequence[Learner]) -> argparse.Namespace:
    names = [learner.name for learner in learners]
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--seeds", type=int, nargs="+", help="of the data, for all learners")
    parser.add_argument("--network-seeds", type=int, nargs="+", help="for all learners")
    parser.add_argument("--learners", nargs="+", choices=names, default=names)
    return parser.parse_args()


def planned(
    learners: Sequence[Learner], options: argparse.Namespace
) -> list[tuple[int, Learner, int]]:
    """Seed of the data, learner and seed of the network of each run, by the data.

    options: learners (names), seeds and network_seeds (None: those of each learner).
    """
    runs = [
        (data_seed, learner, network_seed)
        for learner in learners
        if learner.name in options.learners
        for data_seed in options.seeds or learner.data_seeds
        for network_seed in options.network_seeds or learner.network_seeds
    ]
    return sorted(runs, key=lambda run: run[0])


def read_part(data: Path, ids: Sequence[str]) -> Videos:
    """Videos of an embedded data set by id."""
    labels = np.array([CLASSES.index(i.partition("/")[0]) for i in ids])
    groups = tuple(i.rpartition("/")[2].partition("_")[0] for i in ids)
    return Videos(tuple(data / "videos" / i for i in ids), labels, groups)


def score(
    train: Videos, test: Videos, x_train: NDArray[np.floating], x_test: NDArray[np.floating]
) -> Scored:
    """Evaluate two feature matrices [V, D] as the common protocols do."""
    x_train, x_test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (x_train, x_test))
    svm = choose_C(x_train, train.labels, train.groups, SVM_CS, folds=SVM_FOLDS).classifier
    found = train.labels[nearest(x_test, x_train, 1)[:, 0]]
    return Scored(svm.predict(x_test) == test.labels, found == test.labels)


def colour_histogram(videos: Videos) -> NDArray[np.float64]:
    """[V, 64]: the share of each of 4 x 4 x 4 colours among all pixels."""
    return np.stack([_histogram(path) for path in videos.paths])


def _histogram(path: Path) -> NDArray[np.float64]:
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    red, green, blue = np.moveaxis(frames // 64, -1, 0).astype(np.int64)
    colours = (16 * red + 4 * green + blue).ravel()
    return np.bincount(colours, minlength=64).astype(np.float64) / len(colours)


def open_data(out: Path, data_seed: int) -> tuple[Path, Videos, Videos]:
    """The list to train on, the training and the test part; drawn if it is not there yet."""
    data = write_dataset(out / f"data-{data_seed}", seed=data_seed)
    split = read_splits(data / "splits", dataset="embedded")["1"]
    parts = (read_part(data, split.train), read_part(data, split.test))
    return (data / "videos" / "train1.csv", *parts)


def measure_data(learner: Learner, out: Path, *, data_seed: int, seed: int) -> Iterator[Row]:
    """What does not depend on the recipe: the histogram, and training with labels."""
    _, train, test = open_data(out, data_seed)
    histogram = score(train, test, colour_histogram(train), colour_histogram(test))
    yield _row(HISTOGRAM, data_seed, None, HISTOGRAM, histogram)
    encoder = learner.labelled(train, seed)
    found = score(train, test, train.features(encoder), test.features(encoder))
    yield _row(LABELS, data_seed, seed, LABELS, found)


def measure(learner: Learner, out: Path, *, data_seed: int, network_seed: int) -> Iterator[Row]:
    """Train once and score; a run that is complete is not trained again."""
    videos, train, test = open_data(out, data_seed)
    run = learner.run(out, data_seed, network_seed)
    began = time.monotonic()
    train_recipe(learner, videos, run, network_seed)
    training_s = time.monotonic() - began

    def scored(encoder: Encoder) -> Scored:
        return score(train, test, train.features(encoder), test.features(encoder))

    starts = {name: scored(encoder) for name, encoder in learner.starts(run, train).items()}
    for name, each in starts.items():
        yield _row(learner.name, data_seed, network_seed, name, each)
    trained = scored(learner.load(run / "encoder.safetensors"))
    row = _row(learner.name, data_seed, network_seed, TRAINED, trained)
    yield _with_gains(row, trained, starts, test.groups, training_s)


def train_recipe(learner: Learner, videos: Path, run: Path, seed: int) -> None:
    """Run the recipe in a process of its own; the same folder goes on where it stopped."""
    words = ["recipes", "run", learner.recipe, "--data", str(videos), "--out", str(run)]
    flags = ["--seed", str(seed), *learner.flags]
    command = [sys.executable, "-P", "-m", learner.package, *words, "--", *flags]
    subprocess.run(command, check=True)


def _row(
    learner: str, data_seed: int, network_seed: int | None, features: str, found: Scored
) -> Row:
    means = (100 * float(found.svm.mean()), 100 * float(found.recall_at_1.mean()))
    return Row(learner, data_seed, network_seed, features, *means)


def _with_gains(
    row: Row,
    trained: Scored,
    starts: Mapping[str, Scored],
    groups: Sequence[str],
    training_s: float,
) -> Row:
    svm = max((start.svm for start in starts.values()), key=np.mean)
    recall = max((start.recall_at_1 for start in starts.values()), key=np.mean)
    level = TWO_STANDARD_ERRORS
    svm_gain = paired_difference(trained.svm, svm, groups, level=level)
    recall_gain = paired_difference(trained.recall_at_1, recall, groups, level=level)
    return dataclasses.replace(
        row,
        svm_gain=100 * svm_gain.value,
        svm_gain_low=100 * svm_gain.interval[0],
        recall_gain=100 * recall_gain.value,
        recall_gain_low=100 * recall_gain.interval[0],
        training_s=training_s,
    )


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """CSV, one decimal place."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            table.writerow([_text(value) for value in dataclasses.astuple(row)])


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def write_curves(out: Path, path: Path, names: Sequence[str] = ("loss",)) -> None:
    """CSV of what the runs below `out` logged: run, step and the named values."""
    lines = [",".join(["run", "step", *names])]
    for log in sorted(out.glob("run-*/metrics.jsonl")):
        for line in log.read_text().splitlines():
            values = json.loads(line)
            cells = [f"{values[name]:.4f}" for name in names if name in values]
            lines.append(",".join([log.parent.name, str(values["step"]), *cells]))
    write_text(path, "\n".join(lines) + "\n")
