"""Linear support vector machines on frozen features.

`fit_linear_svc` is scikit-learn's solver, for the papers' own protocols. `fit_joint_svm` solves the
same problem for all classes together, for `common-svm`; `choose_C` sets its one option.

The problem, for class k with signs y = +1 (class k) and -1 (the rest), is liblinear's
L2-regularised squared hinge loss, where the intercept is the weight of a constant feature 1 and is
regularised like the others:

    f(w) = |w|^2 / 2 + C * sum_i max(0, 1 - y_i w.x_i)^2

N examples, D features (D + 1 with the constant), K classes, R = min(N, D + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ProtocolError

Array = NDArray[np.float64]

FIRST_C = 10.0  # a larger C starts from the minimum for a tenth of it
MAX_NEWTON_STEPS = 200
MAX_CG_PRODUCTS = 400
CG_TOLERANCE = 0.03  # of the gradient's norm; loose: the next Newton step corrects what is left
MAX_LINE_ROUNDS = 30
LINE_TOLERANCE = 0.05  # of the slope at the start of the line
# f - |w|^2 / 2 is convex, so where the gradient is g, w is no further than |g| from the minimum and
# f at most |g|^2 / 2 above it. These bound what that does to decision values and to f (relative).
DECISION_TOLERANCE = 1e-4
OBJECTIVE_TOLERANCE = 1e-7


@dataclass(frozen=True)
class LinearClassifier:
    """One linear function per class.

    weights: [K, D] float64. intercept: [K] float64. classes: [K] labels, sorted; K >= 2, and two
    classes have two functions, one the negative of the other.
    """

    weights: Array
    intercept: Array
    classes: NDArray[Any]

    def decision(self, x: NDArray[Any]) -> Array:
        """x: [N, D]. Returns the decision values, [N, K] float64."""
        return x.astype(np.float64) @ self.weights.T + self.intercept

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """x: [N, D]. Returns the class of the largest decision value, [N]; ties: the first."""
        best: NDArray[Any] = self.classes[self.decision(x).argmax(axis=1)]
        return best


def fit_linear_svc(
    x: NDArray[Any],
    y: NDArray[Any],
    C: float,
    *,
    dual: bool | Literal["auto"] = True,
    tol: float = 1e-4,
    max_iter: int = 1000,
    seed: int = 0,
) -> LinearClassifier:
    """scikit-learn's LinearSVC with its squared hinge loss, one against the rest.

    x: [N, D]; y: [N] labels. dual, tol, max_iter: as in LinearSVC; the defaults are those of
    scikit-learn 0.24, with which the papers' numbers were made. seed: the order in which the dual
    solver visits examples. scikit-learn's ConvergenceWarning is passed on: at large C the dual
    solver can stop before it has converged, and the scores then depend on the seed.
    Raises ProtocolError for NaN, fewer than two classes or unequal lengths.
    """
    from sklearn.svm import LinearSVC

    _check(x, y)
    model = LinearSVC(C=C, dual=dual, tol=tol, max_iter=max_iter, random_state=seed).fit(x, y)
    weights, intercept = model.coef_, np.atleast_1d(model.intercept_)
    if len(model.classes_) == 2:
        weights, intercept = np.vstack([-weights, weights]), np.hstack([-intercept, intercept])
    return LinearClassifier(weights.astype(float), intercept.astype(float), model.classes_)


def fit_joint_svm(x: NDArray[Any], y: NDArray[Any], C: float) -> LinearClassifier:
    """Solve f for all classes together.

    x: [N, D]; y: [N] labels. Returns the minimum of f for every class, with decision values within
    1e-3 and objectives within 1e-6 (relative) of scikit-learn's converged ones
    (tests/test_svm.py). Raises ProtocolError for NaN, fewer than two classes, unequal lengths, or
    features of a scale at which the solver does not converge.

    Newton's method with conjugate gradients, as in liblinear's primal solver (Lin, Weng and
    Keerthi, JMLR 2008), but every product with x serves all unfinished classes at once.
    """
    _check(x, y)
    classes, index = np.unique(y, return_inverse=True)
    axes = _PrincipalAxes.of(x)
    return axes.classifier(_minimise_alone(axes.x, _signs(index, len(classes)), C), classes)


@dataclass(frozen=True)
class ChosenC:
    """What cross-validation found.

    C: the chosen value. classifier: fitted with it on all examples. accuracy: share of held-out
    examples that were classified correctly, for every C. folds: how many there were.
    """

    C: float
    classifier: LinearClassifier
    accuracy: dict[float, float]
    folds: int


def choose_C(
    x: NDArray[Any],
    y: NDArray[Any],
    groups: Sequence[Any] | NDArray[Any],
    Cs: Sequence[float],
    *,
    folds: int = 5,
) -> ChosenC:
    """Choose C by grouped cross-validation, then fit on all examples.

    x: [N, D]; y: [N] labels; groups: [N], examples of one group are never separated; Cs: the values
    to try. The accuracy of a C is over all held-out examples together; of equal ones the smaller C
    is taken. The folds are those of `grouped_folds`; with fewer groups than folds there are as many
    folds as groups. Raises ProtocolError for fewer than two groups and as `fit_joint_svm` does.
    """
    _check(x, y)
    classes, index = np.unique(y, return_inverse=True)
    fold = grouped_folds(index, groups, folds)
    axes, signs, path = _PrincipalAxes.of(x), _signs(index, len(classes)), sorted(set(Cs))
    correct = dict.fromkeys(path, 0)
    for held_out in range(fold.max() + 1):
        train, test = fold != held_out, fold == held_out
        solution = np.zeros((axes.rank, len(classes)))
        for C in path:  # each solution is a good start for the next
            solution = _minimise(axes.x[train], signs[train], C, solution)
            predicted = (axes.x[test] @ solution).argmax(axis=1)
            correct[C] += int((predicted == index[test]).sum())
    best = max(path, key=lambda C: (correct[C], -C))
    solution = _minimise_alone(axes.x, signs, best)
    accuracy = {C: count / len(index) for C, count in correct.items()}
    return ChosenC(best, axes.classifier(solution, classes), accuracy, int(fold.max()) + 1)


def grouped_folds(
    classes: NDArray[np.int64], groups: Sequence[Any] | NDArray[Any], folds: int = 5
) -> NDArray[np.int64]:
    """Assign whole groups to folds so that every class is spread over the folds.

    classes: [N] numbers from 0; groups: [N]. Returns the fold of each example, [N] int64.
    No draw is involved. Groups are dealt largest first (of equal ones, the first in the list).
    Each goes to the fold that holds the fewest examples of the group's classes, weighted by how
    many the group has; then to the fold with the fewest examples; then to the lowest number.
    Raises ProtocolError when there are fewer than two groups.
    """
    members: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    if len(members) < 2:
        raise ProtocolError(
            f"cross-validation needs at least 2 groups of training videos, found {len(members)}; "
            "give the videos a `group` column that tells independent recordings apart"
        )
    folds = min(folds, len(members))
    held = np.zeros((folds, int(classes.max()) + 1))
    fold = np.empty(len(classes), np.int64)
    for rows in sorted(members.values(), key=len, reverse=True):
        present, counts = np.unique(classes[rows], return_counts=True)
        of_classes, of_all = held[:, present] @ counts, held.sum(axis=1)
        target = min(range(folds), key=lambda f: (of_classes[f], of_all[f], f))
        held[target, present] += counts
        fold[rows] = target
    return fold


@dataclass(frozen=True)
class _PrincipalAxes:
    """The examples in coordinates in which f is easier to minimise.

    x: [N, R] = [examples, 1] @ basis; basis: [D + 1, R] with orthonormal columns that span the
    examples. Every minimum of f lies in that span and a rotation leaves |w| as it is, so the
    problem is the same one. Along principal axes the Hessian is nearly diagonal, for every class
    and every C, which makes its diagonal a good preconditioner.
    """

    x: Array
    basis: Array

    @classmethod
    def of(cls, examples: NDArray[Any]) -> _PrincipalAxes:
        x = np.hstack([examples.astype(np.float64), np.ones((len(examples), 1))])
        span = np.linalg.qr(x.T)[0] if x.shape[0] < x.shape[1] else None  # None: all of space
        x = x if span is None else x @ span
        rotation = np.linalg.eigh(x.T @ x)[1]
        return cls(x @ rotation, rotation if span is None else span @ rotation)

    @property
    def rank(self) -> int:
        return int(self.x.shape[1])

    def classifier(self, solution: Array, classes: NDArray[Any]) -> LinearClassifier:
        weights = (self.basis @ solution).T
        return LinearClassifier(weights[:, :-1], weights[:, -1], classes)


def _check(x: NDArray[Any], y: NDArray[Any]) -> None:
    if x.ndim != 2 or len(x) != len(y):
        raise ProtocolError(f"features {x.shape} and labels {np.shape(y)} do not belong together")
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise ProtocolError(
            f"{len(rows)} of {len(x)} feature rows hold NaN or infinity, first: row {rows[0]}"
        )
    if len(np.unique(y)) < 2:
        raise ProtocolError("a classifier needs at least 2 classes in the training split, found 1")


def _signs(index: NDArray[np.int64], num_classes: int) -> Array:
    """[N, K]: +1 where the example is of the class, else -1."""
    return np.where(index[:, None] == np.arange(num_classes), 1.0, -1.0)


def _minimise_alone(x: Array, signs: Array, C: float) -> Array:
    """`_minimise` for one C. A large C starts near: from zero it needs many more products."""
    tenths = math.ceil(math.log10(C / FIRST_C)) if C > FIRST_C else 0
    solution = np.zeros((x.shape[1], signs.shape[1]))
    for power in range(tenths, 0, -1):
        with suppress(ProtocolError):  # only a start: the last solution decides
            solution = _minimise(x, signs, C / 10**power, solution)
    return _minimise(x, signs, C, solution)


def _minimise(x: Array, signs: Array, C: float, start: Array) -> Array:
    """Minimise f for every column of `signs` [N, K] from `start` [R, K]. Returns [R, K]."""
    w = start.copy()
    x32 = x.astype(np.float32)  # for the Newton direction only; it need not be exact
    squares32 = x32 * x32
    longest = np.sqrt((x * x).sum(axis=1).max())
    z = x @ w
    live = np.arange(w.shape[1])  # the classes that are not finished
    for _ in range(MAX_NEWTON_STEPS):
        slack = np.maximum(0.0, 1.0 - signs[:, live] * z[:, live])
        value = 0.5 * (w[:, live] ** 2).sum(axis=0) + C * (slack**2).sum(axis=0)
        gradient = w[:, live] - 2.0 * C * (x.T @ (signs[:, live] * slack))
        size = np.linalg.norm(gradient, axis=0)
        left = (size * longest > DECISION_TOLERANCE) | (size**2 > 2 * OBJECTIVE_TOLERANCE * value)
        live, gradient, slack = live[left], gradient[:, left], slack[:, left]
        if not len(live):
            return w
        direction = _newton_direction(x32, squares32, slack > 0, C, gradient)
        z_step = x @ direction
        step = _line_search(w[:, live], z[:, live], signs[:, live], C, gradient, direction, z_step)
        w[:, live] += step * direction
        z[:, live] += step * z_step
    raise ProtocolError(
        f"the SVM did not converge in {MAX_NEWTON_STEPS} steps for {len(live)} classes at C={C:g}; "
        f"the features' largest absolute value is {np.abs(x).max():.3g}: scale them to about 1"
    )


def _newton_direction(
    x32: NDArray[np.float32],
    squares32: NDArray[np.float32],
    active: NDArray[np.bool_],
    C: float,
    gradient: Array,
) -> Array:
    """Solve H d = -gradient for every class by preconditioned conjugate gradients.

    H = I + 2C X'X over the rows that are active (inside the margin) for the class. A column is done
    when its residual is CG_TOLERANCE of its gradient. In float32; returns [R, K] float64.
    """
    solution = np.zeros_like(gradient)
    scale = np.linalg.norm(gradient, axis=0)
    scale[scale == 0] = 1.0
    residual = (-gradient / scale).astype(np.float32)
    mask, twice_C = active.astype(np.float32), np.float32(2.0 * C)
    diagonal = 1.0 + twice_C * (squares32.T @ mask)
    columns = np.arange(gradient.shape[1])  # those that are not done; all that follows is of them
    direction, p = np.zeros_like(residual), residual / diagonal
    energy = (residual * p).sum(axis=0)
    for _ in range(MAX_CG_PRODUCTS):
        left = np.linalg.norm(residual, axis=0) > CG_TOLERANCE
        if not left.all():
            solution[:, columns[~left]] = direction[:, ~left]
            columns, energy = columns[left], energy[left]
            mask, diagonal, p = mask[:, left], diagonal[:, left], p[:, left]
            direction, residual = direction[:, left], residual[:, left]
        if not len(columns):
            break
        product = p + twice_C * (x32.T @ (mask * (x32 @ p)))
        length = energy / (p * product).sum(axis=0)
        direction += length * p
        residual -= length * product
        z = residual / diagonal
        previous, energy = energy, (residual * z).sum(axis=0)
        p = z + (energy / previous) * p
    solution[:, columns] = direction
    solution *= scale
    return solution


def _line_search(
    w: Array, z: Array, y: Array, C: float, gradient: Array, direction: Array, z_step: Array
) -> Array:
    """The step [K] to the lowest point of f along each column of `direction`.

    Along a line f is convex and piecewise quadratic, so Newton's method on its slope, kept inside
    the interval in which the slope changes sign, ends after a few rounds.
    """
    first = (gradient * direction).sum(axis=0)
    linear, quadratic = (w * direction).sum(axis=0), (direction * direction).sum(axis=0)
    step: Array = np.ones_like(first)
    low, high = np.zeros_like(first), np.full_like(first, np.inf)
    for _ in range(MAX_LINE_ROUNDS):
        slack = np.maximum(0.0, 1.0 - y * (z + step * z_step))
        slope = linear + step * quadratic - 2.0 * C * (y * z_step * slack).sum(axis=0)
        unfinished = np.abs(slope) > LINE_TOLERANCE * np.abs(first)
        if not unfinished.any():
            break
        curvature = quadratic + 2.0 * C * (z_step**2 * (slack > 0)).sum(axis=0)
        low, high = np.where(slope < 0, step, low), np.where(slope > 0, step, high)
        newton = step - slope / curvature
        inside = (newton > low) & (newton < high)
        step = np.where(unfinished, np.where(inside, newton, (low + high) / 2), step)
    return step
