"""Reference values of the original programs for `evaluate`, `datasets` and `filterbank`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.evaluate.accuracy import group_average, top_k_accuracy
from ssvideo_core.evaluate.retrieval import nearest, recall_at_k
from ssvideo_core.evaluate.svm import fit_linear_svc
from ssvideo_core.features import unit_rows
from ssvideo_core.testing.cases import Case, ReferenceCases, load_cases, reference_cases
from ssvideo_core.testing.rekey import rekey
from ssvideo_torch.filterbank import log_filter_bank, mel_filters

brave = reference_cases("brave", kinds=["linear_svm", "top_k_accuracy", "group_average"])
sce = reference_cases("sce", kinds=["retrieval"])
selavi = reference_cases("selavi", kinds=["retrieval", "filterbank", "audio"])
gdt_stica = reference_cases("gdt_stica", kinds=["filterbank", "spectrogram"])
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


@selavi.kind("filterbank")
def _(case: Case) -> dict[str, Any]:
    filters = mel_filters(case.filters, nfft=case.nfft, sample_rate_hz=case.sample_rate)
    return {
        "row_sum": filters.sum(axis=1),
        "nonzero": np.count_nonzero(filters, axis=1),
        "first": first_used(filters),
        "col_sum": filters.sum(axis=0),
    }


@gdt_stica.kind("filterbank")
def _(case: Case) -> dict[str, Any]:
    filters = mel_filters(
        case.num_filters, nfft=case.nfft, sample_rate_hz=case.sample_rate, high_hz=case.high_hz
    )
    return {
        "filter_sum": filters.sum(axis=1),
        "first_bin": first_used(filters),
        "empty_filters": np.flatnonzero(~filters.any(axis=1)),
    }


def first_used(filters: NDArray[np.float64]) -> NDArray[np.int64]:
    used = filters != 0
    return np.where(used.any(axis=1), used.argmax(axis=1), -1)


def energies(
    case: Case, wave: NDArray[np.int16], start_s: float, volume: float, num_filters: int
) -> NDArray[np.float64]:
    """What the methods do around the bank: cut a clip out of the whole sound, or its last samples.

    [F, T]. Sound shorter than a clip is cut as the released code does, from a negative start.
    """
    samples = case.num_sec * case.sample_rate
    first = min(round(start_s * case.sample_rate), len(wave) - samples)
    clip = torch.from_numpy(wave[first : min(first + samples, len(wave))] * volume)
    found = log_filter_bank(
        clip[None], sample_rate_hz=case.sample_rate, num_filters=num_filters
    ).double()
    return (found[0].numpy() - 1.93) / 17.89 if case.z_normalize else found[0].numpy()


@selavi.kind("audio")
def _(case: Case) -> dict[str, Any]:
    draws = np.random.RandomState(case.seed)
    start_s = case.start_sec + (draws.uniform(-0.5, 0.5) if case.temporal_jitter else 0.0)
    volume = draws.uniform(0.9, 1.1) if case.volume_jitter else 1.0
    x = energies(case, case.waveform, start_s, volume, 40 if case.spec_type == 1 else 257)
    rows, columns = case.spec_stride
    return {
        "shape": (1, *x.shape),
        "stats": stats(x),
        "row_mean": x.mean(axis=1),
        "col_mean": x.mean(axis=0),
        "empty_rows": np.flatnonzero((x < -30).all(axis=1)),
        "spec": x[None, ::rows, ::columns],
    }


@gdt_stica.kind("spectrogram")
def _(case: Case) -> dict[str, Any]:
    draws = case.draws
    start_s = case.fr_sec + (draws["temporal_jitter"] or 0.0)
    x = energies(case, case.wave, start_s, draws["volume"] or 1.0, case.num_filters)
    for number, (width, first) in enumerate(draws["masks"]):
        along_filters = number < case.aug_audio[0]
        (x if along_filters else x.T)[first : first + int(width)] = 0
    rows, columns = case.stride
    return {
        "shape": (1, *x.shape),
        "spec": x[None, ::rows, ::columns],
        "mean_std": [x.mean(), x.std()],
        "row_mean": x.mean(axis=1),
    }


test_brave = brave.parametrised()
test_sce = sce.parametrised()
test_selavi = selavi.parametrised()
test_vicc = vicc.parametrised()
test_gdt_stica = gdt_stica.parametrised()


@pytest.mark.parametrize(
    "cases", [brave, sce, selavi, vicc, gdt_stica], ids=lambda cases: cases.folder.name
)
def test_nothing_depends_on_the_names_in_a_folder(cases: ReferenceCases, tmp_path: Path) -> None:
    if not cases.cases:
        pytest.skip(f"{cases.folder} has none of these kinds")
    others = {case.kind for case in load_cases(cases.folder)} - set(cases.kinds or ())
    moved = cases.moved(rekey(cases.folder, tmp_path / "moved", drop=others))
    assert len(moved.cases) == len(cases.cases)
    for case in moved.cases:
        moved.check(case, tmp_path)
