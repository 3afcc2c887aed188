"""Choosing C as scripts do: scikit-learn's SVM for every C and fold, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import LinearSVC


def choose_C(
    x: NDArray[Any], y: NDArray[Any], fold: NDArray[np.int64], Cs: Sequence[float]
) -> tuple[float, LinearSVC]:
    """The C with the most held-out examples right (the first of equal ones), and a model of all."""
    right = dict.fromkeys(Cs, 0)
    for C in Cs:
        for held_out in range(fold.max() + 1):
            test = fold == held_out
            model = LinearSVC(C=C, dual="auto", random_state=0).fit(x[~test], y[~test])
            right[C] += int((model.predict(x[test]) == y[test]).sum())
    best = max(Cs, key=lambda C: right[C])
    return best, LinearSVC(C=best, dual="auto", random_state=0).fit(x, y)
