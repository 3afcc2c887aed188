from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from ssvideo_core.errors import ProtocolError
from ssvideo_core.evaluate import svm
from ssvideo_core.evaluate.svm import choose_C, fit_joint_svm, fit_linear_svc, grouped_folds

CS = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]


def examples(
    n: int,
    d: int,
    k: int,
    noise: float,
    *,
    seed: int = 0,
    unit: bool = True,
    imbalance: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """ReLU-like features around class centres; imbalance 1: class sizes fall off like 1/rank."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, k + 1) ** imbalance
    y = np.concatenate([np.arange(k), rng.choice(k, n - k, p=share / share.sum())])
    x = np.maximum(0, rng.normal(size=(k, d))[y] + noise * rng.normal(size=(n, d)))
    if unit:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), y


def objective(weights: Any, intercept: Any, x: Any, y: Any, C: float, positive: Any) -> float:
    """The problem as liblinear states it, example by example."""
    loss = 0.0
    for row, label in zip(x.astype(np.float64), y, strict=True):
        sign = 1.0 if label == positive else -1.0
        loss += max(0.0, 1.0 - sign * (float(row @ weights) + float(intercept))) ** 2
    return 0.5 * (float(weights @ weights) + float(intercept) ** 2) + C * loss


def converged(x: Any, y: Any, C: float) -> tuple[Any, Any]:
    """scikit-learn's primal solution, both columns of two classes."""
    model = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x.astype(np.float64), y)
    if len(model.classes_) == 2:
        return np.vstack([-model.coef_, model.coef_]), np.hstack(
            [-model.intercept_, model.intercept_]
        )
    return model.coef_, model.intercept_


SETS = {
    "separable": {"n": 300, "d": 32, "k": 5, "noise": 0.5},
    "noisy": {"n": 300, "d": 32, "k": 5, "noise": 4.0},
    "more features than examples": {"n": 90, "d": 250, "k": 4, "noise": 2.0},
    "two classes": {"n": 200, "d": 16, "k": 2, "noise": 2.0},
    "imbalanced": {"n": 400, "d": 24, "k": 8, "noise": 2.0, "imbalance": 2.0},
    "not normalised": {"n": 200, "d": 20, "k": 3, "noise": 2.0, "unit": False},
}


@pytest.mark.parametrize("C", CS)
@pytest.mark.parametrize("name", SETS)
def test_joint_solver_finds_the_minimum_that_scikit_learn_finds(name: str, C: float) -> None:
    x, y = examples(**SETS[name])  # type: ignore[arg-type]
    found = fit_joint_svm(x, y, C)
    weights, intercept = converged(x, y, C)
    for row, label in enumerate(found.classes):
        ours = objective(found.weights[row], found.intercept[row], x, y, C, label)
        theirs = objective(weights[row], intercept[row], x, y, C, label)
        assert ours == pytest.approx(theirs, rel=1e-6)
    other = examples(**{**SETS[name], "seed": 1})[0]  # type: ignore[arg-type]
    for rows in (x, other):
        decision = rows.astype(np.float64) @ weights.T + intercept
        np.testing.assert_allclose(found.decision(rows), decision, rtol=0, atol=1e-3)


def test_joint_solver_with_a_common_offset_constant_features_and_repeated_rows() -> None:
    x, y = examples(120, 10, 4, 2.0)
    x = np.hstack([x + 5, np.ones((120, 1)), np.zeros((120, 2)), x[:, :2]]).astype(np.float32)
    x, y = np.vstack([x, x]), np.concatenate([y, y])
    found = fit_joint_svm(x, y, 1.0)
    weights, intercept = converged(x, y, 1.0)
    np.testing.assert_allclose(found.decision(x), x @ weights.T + intercept, rtol=0, atol=1e-3)


def test_two_classes_have_one_function_and_its_negative() -> None:
    x, y = examples(80, 8, 2, 1.0)
    for model in (fit_joint_svm(x, y, 1.0), fit_linear_svc(x, y, 1.0, dual=False, tol=1e-8)):
        decision = model.decision(x)
        assert decision.shape == (80, 2)
        np.testing.assert_allclose(decision[:, 0], -decision[:, 1], atol=1e-5)
        np.testing.assert_array_equal(model.predict(x), np.where(decision[:, 1] > 0, 1, 0))


def test_labels_may_be_text_and_columns_follow_the_sorted_classes() -> None:
    x, y = examples(60, 8, 3, 0.3)
    names = np.array(["walk", "jump", "run"])[y]
    model = fit_joint_svm(x, names, 10.0)
    assert model.classes.tolist() == ["jump", "run", "walk"]
    assert (model.predict(x) == names).all()
    np.testing.assert_allclose(
        model.decision(x), fit_joint_svm(x, y, 10.0).decision(x)[:, [1, 2, 0]], atol=1e-4
    )


def test_linear_svc_is_scikit_learns_with_the_settings_given() -> None:
    x, y = examples(100, 12, 3, 1.0)
    for options in ({"dual": True, "seed": 3}, {"dual": False, "seed": 0}):
        ours = fit_linear_svc(x, y, 0.1, tol=1e-3, max_iter=5000, **options)  # type: ignore[arg-type]
        theirs = LinearSVC(
            C=0.1, dual=options["dual"], tol=1e-3, max_iter=5000, random_state=options["seed"]
        ).fit(x, y)
        np.testing.assert_allclose(ours.decision(x), theirs.decision_function(x), atol=1e-6)


def test_a_solver_that_cannot_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "MAX_NEWTON_STEPS", 2)
    x, y = examples(100, 10, 3, 2.0)
    with pytest.raises(ProtocolError, match=r"did not converge in 2 steps for \d classes at C=100"):
        fit_joint_svm(x, y, 100.0)


@pytest.mark.parametrize("fit", [fit_joint_svm, fit_linear_svc])
def test_what_no_classifier_can_be_fitted_to_is_refused(fit: Any) -> None:
    x, y = examples(20, 4, 2, 1.0)
    bad = x.copy()
    bad[[3, 7], 1] = np.nan
    with pytest.raises(
        ProtocolError, match="2 of 20 feature rows hold NaN or infinity, first: row 3"
    ):
        fit(bad, y, 1.0)
    with pytest.raises(ProtocolError, match="at least 2 classes in the training split, found 1"):
        fit(x, np.zeros(20), 1.0)
    with pytest.raises(ProtocolError, match=r"features \(20, 4\) and labels \(19,\)"):
        fit(x, y[:19], 1.0)


def test_chosen_C_equals_a_plain_cross_validation_with_scikit_learn() -> None:
    x, y = examples(150, 16, 4, 3.0)
    groups = [f"g{i // 3}" for i in range(150)]
    fold = grouped_folds(y, groups)
    correct = {}
    for C in CS:
        hits = 0
        for number in range(5):
            train, test = fold != number, fold == number
            weights, intercept = converged(x[train], y[train], C)
            hits += int(((x[test] @ weights.T + intercept).argmax(axis=1) == y[test]).sum())
        correct[C] = hits
    best = min(C for C in CS if correct[C] == max(correct.values()))
    chosen = choose_C(x, y, groups, CS)
    assert chosen.accuracy == {C: hits / 150 for C, hits in correct.items()}
    assert (chosen.C, chosen.folds) == (best, 5)
    np.testing.assert_array_equal(
        chosen.classifier.decision(x), fit_joint_svm(x, y, best).decision(x)
    )


def test_of_equal_accuracies_the_smaller_C_is_chosen_whatever_the_order() -> None:
    x, y = examples(60, 8, 3, 0.05)
    groups = np.arange(60)
    for Cs in ([100.0, 10.0, 1.0], [1.0, 100.0, 10.0]):
        chosen = choose_C(x, y, groups, Cs)
        assert set(chosen.accuracy.values()) == {1.0}
        assert chosen.C == 1.0


def test_cross_validation_keeps_groups_together_where_a_plain_one_is_fooled() -> None:
    """Copies of a video in both parts make the largest C look best; by group it is not."""
    rng = np.random.default_rng(0)
    originals, labels = rng.normal(size=(60, 40)).astype(np.float32), rng.integers(0, 3, 60)
    x, y = np.repeat(originals, 4, axis=0), np.repeat(labels, 4)
    fooled = choose_C(x, y, np.arange(240), CS)
    honest = choose_C(x, y, np.repeat(np.arange(60), 4), CS)
    assert fooled.accuracy[100.0] == 1.0
    assert honest.accuracy[100.0] < 0.5


def test_folds_hold_whole_groups_and_every_class() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(6), 50)
    groups = np.array([f"{label}/{rng.integers(12)}" for label in y])
    fold = grouped_folds(y, groups)
    for group in set(groups):
        assert len(set(fold[groups == group])) == 1
    for label in range(6):
        counts = np.bincount(fold[y == label], minlength=5)
        assert counts.min() >= 4 and counts.max() <= 16  # 10 each, groups of 1 to 9
    assert np.ptp(np.bincount(fold)) <= 6
    np.testing.assert_array_equal(fold, grouped_folds(y, groups))


def test_folds_of_a_case_worked_by_hand() -> None:
    y = np.array([0, 0, 0, 1, 1, 0, 1, 0])
    groups = ["a", "a", "a", "b", "b", "c", "d", "e"]
    # a (3 of class 0) to fold 0; b (2 of class 1) to fold 1, which holds less of everything;
    # c (class 0) to 1; d (class 1) to 0; e (class 0) to 1, which holds 1 of class 0 against 3.
    assert grouped_folds(y, groups, 2).tolist() == [0, 0, 0, 1, 1, 1, 0, 1]


def test_fewer_groups_than_folds() -> None:
    y = np.array([0, 1, 0, 1, 0, 1])
    assert sorted(set(grouped_folds(y, [0, 0, 1, 1, 2, 2]))) == [0, 1, 2]
    with pytest.raises(ProtocolError, match="at least 2 groups of training videos, found 1"):
        grouped_folds(y, ["only"] * 6)
