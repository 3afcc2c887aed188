"""The SVM of common-svm against scikit-learn's: python core/benchmarks/svm.py

Prints CSV, a line a case: seconds of scikit-learn's LinearSVC in its default settings and of
`fit_joint_svm` for one C, their ratio (target at 3570 x 2048 x 51: 5), how much larger the sum of
the objectives is at which ours ends (relative; negative: ours is lower), the share of 1000 new
examples that both call the same, and the peak memory in MB. With --choose, instead: all of a
protocol's training (6 values of C, 5 folds) by `choose_C`, in seconds, with the peak memory in MB
and how much of it came on top of the features, and, unless --alone, by scikit-learn on the same
folds (`plain_svm`), with the C that each chose. Features have length 1 and overlapping classes.

All may use --threads threads, 0 for all cores; scikit-learn has no use for more than one. Seconds
are of the processor with one thread, so that other work disturbs little, else of the clock.

    python core/benchmarks/svm.py                                                HMDB51's size
    python core/benchmarks/svm.py --choose                                       the same
    python core/benchmarks/svm.py --choose --alone --examples 9537 --classes 101 UCF101's size
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import numpy as np
import plain_svm
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from ssvideo_core.evaluate.svm import LinearClassifier, choose_C, fit_joint_svm, grouped_folds
from ssvideo_core.features import unit_rows
from ssvideo_core.protocols import SVM_CS, SVM_FOLDS
from ssvideo_core.testing.benchmarks import peak_mb, publish, timed
from threadpoolctl import threadpool_limits

PACKAGES = ("numpy", "scikit-learn")
Case = tuple[int, int, int]  # examples, size of a feature, classes
NEW, GROUP = 1000, 7  # UCF101 and HMDB51 have about 7 videos of a recording


def examples(count: int, size: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, size))
    labels = np.arange(count) % classes
    noise = np.sqrt(size) / 4 * unit_rows(rng.normal(size=(count, size)))
    rows = unit_rows(centres[labels] / 4 + noise + rng.normal(size=(count, size)))
    return rows.astype(np.float32), labels


def objective(
    model: LinearClassifier, x: NDArray[np.float32], y: NDArray[np.int64], C: float
) -> float:
    """Of all classes together, as `evaluate.svm` states it."""
    signs = np.where(y[:, None] == model.classes, 1.0, -1.0)
    slack = np.maximum(0, 1 - signs * model.decision(x))
    length = (model.weights**2).sum() + (model.intercept**2).sum()
    return float(length / 2 + C * (slack**2).sum())


def compare(case: Case, C: float, threads: int) -> tuple[object, ...]:
    count, size, classes = case
    x, y = examples(count + NEW, size, classes)
    new, x, y = x[count:], x[:count], y[:count]
    plain = LinearSVC(C=C, dual="auto", random_state=0)
    plain_s, _ = timed(lambda: plain.fit(x, y), threads=threads)
    own_s, own = timed(lambda: fit_joint_svm(x, y, C), threads=threads)
    theirs = LinearClassifier(
        plain.coef_.astype(float), plain.intercept_.astype(float), own.classes
    )
    lost = objective(own, x, y, C) / objective(theirs, x, y, C) - 1
    assert lost < 1e-6, f"scikit-learn found a lower minimum, by {lost}"
    same = (own.predict(new) == theirs.predict(new)).mean()
    times = f"{plain_s:.2f}", f"{own_s:.2f}", f"{plain_s / own_s:.1f}"
    return *case, C, threads, *times, f"{lost:.1e}", f"{same:.4f}", f"{peak_mb():.0f}"


def choose(case: Case, threads: int, alone: bool) -> tuple[object, ...]:
    count, _, classes = case
    x, y = examples(*case)
    groups = np.arange(count) // (GROUP * classes) * classes + y
    before = peak_mb()
    own_s, own = timed(lambda: choose_C(x, y, groups, SVM_CS, folds=SVM_FOLDS), threads=threads)
    memory = f"{peak_mb():.0f}", f"{peak_mb() - before:.0f}"
    theirs: tuple[object, ...] = ("", "", "")
    if not alone:
        fold = grouped_folds(y, groups, SVM_FOLDS)
        plain_s, (plain_C, _) = timed(
            lambda: plain_svm.choose_C(x, y, fold, SVM_CS), threads=threads
        )
        theirs = plain_C, f"{plain_s:.1f}", f"{plain_s / own_s:.1f}"
    return *case, own.C, threads, f"{own_s:.1f}", *memory, *theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, default=3570)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=51)
    parser.add_argument("--C", type=float, nargs="+", default=[1.0, 100.0])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--alone", action="store_true", help="with --choose: no scikit-learn")
    arguments = parser.parse_args()
    case = arguments.examples, arguments.size, arguments.classes
    columns = ["examples", "size", "classes", "C", "threads"]
    threads = arguments.threads or os.cpu_count() or 1
    size = f"{'x'.join(map(str, case))}-threads{threads}"

    def rows() -> Iterator[tuple[object, ...]]:
        for C in arguments.C:
            yield compare(case, C, threads)

    with threadpool_limits(threads):
        if arguments.choose:
            columns += ["joint_s", "peak_mb", "of_it_mb", "sklearn_C", "sklearn_s", "ratio"]
            found = [choose(case, threads, arguments.alone)]
            publish(f"svm_choose-{size}", columns, found, packages=PACKAGES)
        else:
            columns += ["sklearn_s", "joint_s", "ratio", "objective", "same", "peak_mb"]
            publish(f"svm-{size}", columns, rows(), packages=PACKAGES)


if __name__ == "__main__":
    main()
