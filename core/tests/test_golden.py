"""Reference values of the original programs for the functions of `evaluate` and `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.evaluate.accuracy import group_average, top_k_accuracy
from ssvideo_core.evaluate.retrieval import nearest, recall_at_k
from ssvideo_core.evaluate.svm import fit_linear_svc
from ssvideo_core.features import unit_rows
from ssvideo_core.testing.cases import Case, ReferenceCases, load_cases, reference_cases
from ssvideo_core.testing.rekey import rekey

brave = reference_cases("brave", kinds=["linear_svm", "top_k_accuracy", "group_average"])
sce = reference_cases("sce", kinds=["retrieval"])
selavi = reference_cases("selavi", kinds=["retrieval"])
vicc = reference_cases("vicc", kinds=["retrieval_metric", "class_order"])


def shares(scores: NDArray[Any], labels: NDArray[Any], ks: Any = (1, 5)) -> NDArray[np.float64]:
    """BraVe takes the last entries of an ascending sort: ties go to the higher class."""
    return np.array(list(top_k_accuracy(scores, np.ravel(labels), ks, ties="higher").values()))


@brave.kind("linear_svm")
def _(case: Case) -> dict[str, Any]:
    scaler = StandardScaler().fit(case.x_train)
    x_train, x_test = scaler.transform(case.x_train), scaler.transform(case.x_test)
    labels = np.repeat(case.y_test, case.group)
    model = fit_linear_svc(x_train, case.y_train, case.C)
    scores, _ = group_average(model.decision(x_test), labels, case.group)
    outputs: dict[str, Any] = {
        "train_accuracy": shares(model.decision(x_train), case.y_train),
        "test_accuracy": shares(scores, case.y_test),
    }
    for name, dual in (("primal", False), ("dual", True)):
        model = fit_linear_svc(x_train, case.y_train, case.C, dual=dual, tol=1e-8, max_iter=10**6)
        scores, _ = group_average(model.decision(x_test), labels, case.group)
        outputs[f"decision_{name}"] = scores
        outputs[f"top1_{name}"] = shares(scores, case.y_test, (1,))
    return outputs


@brave.kind("top_k_accuracy")
def _(case: Case) -> dict[str, Any]:
    return {"accuracy": shares(case.scores, case.labels, case.k)}


@brave.kind("group_average")
def _(case: Case) -> dict[str, Any]:
    scores, labels = group_average(case.scores, np.array(case.labels), case.group)
    return {"scores": scores, "labels": labels[:, None]}


def prepared(x: NDArray[Any], center: bool, normalize: bool) -> NDArray[Any]:
    x = x - x.mean(axis=0) if center else x
    return unit_rows(x) if normalize else x


@sce.kind("retrieval")
def _(case: Case) -> dict[str, Any]:
    query, bank = (
        prepared(case[name], case.center[name], case.normalize[name]) for name in ("query", "bank")
    )
    found = recall_at_k(query, bank, case.query_labels, case.bank_labels, case.ranks)
    return {"recall": list(found.recall.values()), "top1_index": found.neighbours[:, 0]}


@selavi.kind("retrieval")
def _(case: Case) -> dict[str, Any]:
    means, classes = {}, {}
    for part in ("train", "test"):
        rows, clips = case[part]["features"], case[part]["clips"]
        rows = unit_rows(rows) if case.normalize else rows
        classes[part] = case[part]["classes"]
        means[part], _ = group_average(rows, np.repeat(classes[part], clips), clips)
    found = recall_at_k(
        means["test"], means["train"], classes["test"], classes["train"], case.k, metric="euclidean"
    )
    nearest_50 = nearest(means["test"], means["train"], 50, metric="euclidean")
    precision = []
    for line, label in zip(nearest_50, classes["test"], strict=True):
        labels = set(classes["train"][line])
        precision.append((label in labels) / len(labels))
    return {
        "recall": [100 * share for share in found.recall.values()],
        "avg_stats": stats(means["train"]),
        "nn50": nearest_50[:5],
        "class_precision_50": precision,
    }


def stats(x: NDArray[Any]) -> NDArray[np.float64]:
    flat = x.ravel().astype(np.float64)
    picked = flat[np.linspace(0, flat.size - 1, 8).astype(int)]
    return np.concatenate([[flat.mean(), flat.std()], picked])


@vicc.kind("retrieval_metric")
def _(case: Case) -> dict[str, Any]:
    test, train = (prepared(x, True, True) for x in (case.test_feature, case.train_feature))
    found = recall_at_k(test, train, case.test_labels, case.train_labels, case.ks)
    return {"recall": list(found.recall.values()), "top5": nearest(test, train, 5)}


@vicc.kind("class_order")
def _(case: Case) -> dict[str, Any]:
    return {case.dataset: class_names(case.dataset, "coclr")}


test_brave = brave.parametrised()
test_sce = sce.parametrised()
test_selavi = selavi.parametrised()
test_vicc = vicc.parametrised()


@pytest.mark.parametrize("cases", [brave, sce, selavi, vicc], ids=lambda cases: cases.folder.name)
def test_nothing_depends_on_the_names_in_a_folder(cases: ReferenceCases, tmp_path: Path) -> None:
    others = {case.kind for case in load_cases(cases.folder)} - set(cases.kinds or ())
    moved = cases.moved(rekey(cases.folder, tmp_path / "moved", drop=others))
    assert len(moved.cases) == len(cases.cases)
    for case in moved.cases:
        moved.check(case, tmp_path)
