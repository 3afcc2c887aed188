"""The SVM of common-svm against scikit-learn's: python core/benchmarks/svm.py

Prints CSV, a line a case: seconds of scikit-learn's LinearSVC in its default settings and of
`fit_joint_svm` for one C, their ratio, how much larger the sum of the objectives is at which ours
ends (relative; negative: ours is lower), and the share of 1000 new examples that both call the
same. With --choose, instead: all of a protocol's training (6 values of C, 5 folds) by `choose_C`,
in seconds, with the peak memory in MB and how much of it came on top of the features, and, unless
--alone, by scikit-learn on the same folds (`plain_svm`), with the C that each chose (target of the
ratio at 3570 x 2048 x 51: 5). Features have length 1 and overlapping classes. All may use all
cores; scikit-learn uses one.

    python core/benchmarks/svm.py                                                HMDB51's size
    python core/benchmarks/svm.py --choose                                       the same
    python core/benchmarks/svm.py --choose --alone --examples 9537 --classes 101 UCF101's size
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plain_svm
from named_csv import publish
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from ssvideo_core.evaluate.svm import LinearClassifier, choose_C, fit_joint_svm, grouped_folds
from ssvideo_core.features import unit_rows
from ssvideo_core.protocols import SVM_CS, SVM_FOLDS

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


def compare(count: int, size: int, classes: int, C: float) -> tuple[object, ...]:
    x, y = examples(count + NEW, size, classes)
    new, x, y = x[count:], x[:count], y[:count]
    start = time.perf_counter()
    model = LinearSVC(C=C, dual="auto", random_state=0).fit(x, y)
    middle = time.perf_counter()
    own = fit_joint_svm(x, y, C)
    end = time.perf_counter()
    theirs = LinearClassifier(
        model.coef_.astype(float), model.intercept_.astype(float), own.classes
    )
    lost = objective(own, x, y, C) / objective(theirs, x, y, C) - 1
    assert lost < 1e-6, f"scikit-learn found a lower minimum, by {lost}"
    same = (own.predict(new) == theirs.predict(new)).mean()
    times = (
        f"{middle - start:.2f}",
        f"{end - middle:.2f}",
        f"{(middle - start) / (end - middle):.1f}",
    )
    return count, size, classes, C, *times, f"{lost:.1e}", f"{same:.4f}"


def peak_mb() -> float:
    """Peak resident memory of this process so far; Linux only."""
    status = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1024


def choose(count: int, size: int, classes: int, alone: bool) -> tuple[object, ...]:
    x, y = examples(count, size, classes)
    groups = np.arange(count) // (GROUP * classes) * classes + y
    before, start = peak_mb(), time.perf_counter()
    chosen = choose_C(x, y, groups, SVM_CS, folds=SVM_FOLDS)
    seconds, peak = time.perf_counter() - start, peak_mb()
    theirs: tuple[object, ...] = ("", "", "")
    if not alone:
        start = time.perf_counter()
        plain_C, _ = plain_svm.choose_C(x, y, grouped_folds(y, groups, SVM_FOLDS), SVM_CS)
        plain_s = time.perf_counter() - start
        theirs = plain_C, f"{plain_s:.1f}", f"{plain_s / seconds:.1f}"
    memory = f"{peak:.0f}", f"{peak - before:.0f}"
    return count, size, classes, chosen.C, f"{seconds:.1f}", *memory, *theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, default=3570)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=51)
    parser.add_argument("--C", type=float, nargs="+", default=[1.0, 100.0])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--alone", action="store_true", help="with --choose: no scikit-learn")
    arguments = parser.parse_args()
    case = arguments.examples, arguments.size, arguments.classes
    columns = ["examples", "size", "classes", "C"]

    def rows() -> Iterator[tuple[object, ...]]:
        for C in arguments.C:
            yield compare(*case, C)

    if arguments.choose:
        columns += ["joint_s", "peak_mb", "of_it_mb", "sklearn_C", "sklearn_s", "ratio"]
        found = [choose(*case, arguments.alone)]
        publish("svm-choose", columns, found, packages=["numpy", "scikit-learn"])
    else:
        columns += ["sklearn_s", "joint_s", "ratio", "objective", "same"]
        publish("svm", columns, rows(), packages=["numpy", "scikit-learn"])


if __name__ == "__main__":
    main()
