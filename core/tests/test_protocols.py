from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from ssvideo_core import protocols
from ssvideo_core.blocks import Block, Failure
from ssvideo_core.datasets.splits import Split
from ssvideo_core.errors import ConfigError, ProtocolError
from ssvideo_core.evaluate.intervals import bootstrap_interval
from ssvideo_core.evaluate.svm import grouped_folds
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import FeatureSet, clip_to_json
from ssvideo_core.protocols import COMMON_RETRIEVAL, COMMON_SVM, evaluate, parse_protocols
from ssvideo_core.results import Key
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread

CLIP = ClipSpec("rgb", Spread(8, 1.0), Pixels(64, 56, 56), "repeat_last")
CLASSES, PER_CLASS, SIZE = 8, 15, 12
IDS = [f"c{k}/{i}.mp4" for k in range(CLASSES) for i in range(PER_CLASS)]
SPLIT = Split(
    "mine",
    "all",
    tuple(video for i, video in enumerate(IDS) if i % PER_CLASS < 10),
    tuple(video for i, video in enumerate(IDS) if i % PER_CLASS >= 10),
)


def values_of(ids: list[str], noise: float = 1.6) -> NDArray[np.float32]:
    """Rows around a centre of the class, of any length; the same video has the same row."""
    rng = np.random.default_rng(3)
    centres = {f"c{k}": rng.normal(size=SIZE) for k in range(CLASSES)}
    noises = {video: rng.normal(size=SIZE) for video in IDS}
    lengths = {video: rng.uniform(0.1, 3) for video in IDS}
    rows = [lengths[v] * (centres[v.split("/")[0]] + noise * noises[v]) for v in ids]
    return np.array(rows, np.float32)


def make(
    folder: Path,
    ids: list[str] = IDS,
    values: NDArray[np.float32] | None = None,
    *,
    labels: list[str | None] | None = None,
    groups: list[str | None] | None = None,
    failed: tuple[str, ...] = (),
    **request: Any,
) -> FeatureSet:
    """A feature folder of fewer than 256 videos, so one block."""
    values = values_of(ids) if values is None else values
    labels = [video.split("/")[0] for video in ids] if labels is None else labels
    groups = [None] * len(ids) if groups is None else groups
    full = {
        "method": "fake",
        "weights": "random",
        "backbone": "none",
        "modality": "rgb",
        "kind": "features",
        "fingerprint": "f" * 64,
        "clip": clip_to_json(CLIP),
        "views": [10, 3],
        "keep": "video",
        "feature_size": values.shape[1],
        "batch_size": 8,
        **request,
    }
    writer = FeatureWriter(folder, full, list(zip(ids, labels, groups, strict=True)))
    kept = [i for i, video in enumerate(ids) if video not in failed]
    failures = tuple(Failure(ids.index(v), v, "no sound", bad=False) for v in failed)
    block = Block(
        0, values[kept], np.array(kept, np.int64), np.full(len(kept), -1, np.int32), failures, 0
    )
    writer.write(block)
    found = writer.finish()
    assert found is not None
    return found


def rows_of(ids: tuple[str, ...]) -> NDArray[np.float64]:
    rows = values_of(list(ids)).astype(np.float64)
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def labels_of(ids: tuple[str, ...]) -> NDArray[Any]:
    return np.array([video.split("/")[0] for video in ids])


def test_svm_equals_the_protocol_written_with_scikit_learn(tmp_path: Path) -> None:
    groups = [f"{v.split('/')[0]}-{i // 2}" for i, v in enumerate(IDS)]
    results = evaluate("common-svm", make(tmp_path / "f", groups=list(groups)), SPLIT)
    x, y, test, wanted = (
        rows_of(SPLIT.train),
        labels_of(SPLIT.train),
        rows_of(SPLIT.test),
        labels_of(SPLIT.test),
    )
    of_train = [groups[IDS.index(video)] for video in SPLIT.train]
    fold = grouped_folds(np.unique(y, return_inverse=True)[1], of_train)

    def fitted(rows: Any, labels: Any, C: float) -> LinearSVC:
        return LinearSVC(C=C, dual=False, tol=1e-9, max_iter=10**6).fit(rows, labels)

    hits = {
        C: sum(
            (fitted(x[fold != f], y[fold != f], C).predict(x[fold == f]) == y[fold == f]).sum()
            for f in range(5)
        )
        for C in (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    }
    C = min(C for C in hits if hits[C] == max(hits.values()))
    model = fitted(x, y, C)
    top1 = model.predict(test) == wanted
    order = np.argsort(-model.decision_function(test), axis=1)[:, :5]
    top5 = (model.classes_[order] == wanted[:, None]).any(axis=1)
    of_test = [groups[IDS.index(video)] for video in SPLIT.test]
    assert 0.3 < top1.mean() < top5.mean() < 1  # neither trivial nor lost
    for result, metric, answers in zip(results, ("top1", "top5"), (top1, top5), strict=True):
        assert result.key == Key(
            "fake", "random", "none", "rgb", "mine", "all", "common-svm/1@10x3", metric
        )
        assert result.value == answers.mean()
        assert result.interval == bootstrap_interval(answers, of_test)
        assert (result.n, result.failed, result.selected_on_test) == (40, 0, False)
        assert result.details["C"] == C
        assert result.details["cross_validation"] == {f"{c:g}": h / 80 for c, h in hits.items()}


def test_retrieval_equals_a_full_sort(tmp_path: Path) -> None:
    results = evaluate(COMMON_RETRIEVAL, make(tmp_path / "f"), SPLIT)
    similarity = rows_of(SPLIT.test) @ rows_of(SPLIT.train).T
    order = np.argsort(-similarity, axis=1, kind="stable")
    same = labels_of(SPLIT.train)[order] == labels_of(SPLIT.test)[:, None]
    expected = {f"recall@{k}": same[:, :k].any(axis=1) for k in (1, 5, 10, 20, 50)}
    assert {result.key.metric: result.value for result in results} == {
        metric: hits.mean() for metric, hits in expected.items()
    }
    for result in results:
        assert result.interval == bootstrap_interval(expected[result.key.metric])
        assert result.key.protocol == "common-retrieval/1@10x3"


def test_metrics_that_cannot_exist_are_left_out_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ids = [video for video in IDS if video[:2] in ("c0", "c1")]
    small = Split("mine", "all", tuple(ids[:9] + ids[15:24]), tuple(ids[9:15] + ids[24:]))
    features = make(tmp_path / "f")
    found = [r.key.metric for r in evaluate("common-retrieval", features, small)]
    assert found == ["recall@1", "recall@5", "recall@10"]
    assert "recall@50 is left out: the gallery has only 18 videos" in caplog.messages
    assert [r.key.metric for r in evaluate("common-svm", features, small)] == ["top1"]
    assert "top5 is left out: there are only 2 classes" in caplog.messages


def test_failed_videos_are_left_out_and_counted(tmp_path: Path) -> None:
    lost = (SPLIT.train[3], SPLIT.test[0], SPLIT.test[7])
    whole = make(tmp_path / "whole")
    part = make(tmp_path / "part", failed=lost)
    rest = Split(
        "mine",
        "all",
        tuple(v for v in SPLIT.train if v not in lost),
        tuple(v for v in SPLIT.test if v not in lost),
    )
    for protocol in (COMMON_SVM, COMMON_RETRIEVAL):
        for left, right in zip(
            evaluate(protocol, part, SPLIT), evaluate(protocol, whole, rest), strict=True
        ):
            assert (left.failed, right.failed) == (3, 0)
            assert left.provenance and right.provenance
            assert left.provenance.digest != right.provenance.digest
            assert replace(left, failed=0, provenance=None) == replace(right, provenance=None)


def test_several_folders_may_hold_one_split(tmp_path: Path) -> None:
    train = make(tmp_path / "train", list(SPLIT.train))
    test = make(tmp_path / "test", list(SPLIT.test))
    both = evaluate(COMMON_SVM, [train, test], SPLIT)
    assert both == evaluate(COMMON_SVM, make(tmp_path / "all"), SPLIT)


def test_ucf101_groups_come_from_the_names(tmp_path: Path) -> None:
    ids = [f"Biking/v_Biking_g{g:02}_c{c:02}.avi" for g in range(1, 9) for c in (1, 2)]
    ids += [f"Diving/v_Diving_g{g:02}_c{c:02}.avi" for g in range(1, 9) for c in (1, 2)]
    values = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    features = make(tmp_path / "f", ids, values, groups=list(ids))
    split = Split("ucf101", "1", tuple(ids[:8] + ids[16:24]), tuple(ids[8:16] + ids[24:]))
    result = evaluate(COMMON_RETRIEVAL, features, split)[0]
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    train, test = ([ids.index(video) for video in part] for part in (split.train, split.test))
    best = np.argmax(unit[test] @ unit[train].T, axis=1)
    answers = np.array([ids[i][:6] == ids[train[b]][:6] for i, b in zip(test, best, strict=True)])
    groups = [video[:6] + video[-11:-8] for video in split.test]
    assert len(set(groups)) == 8
    assert result.interval == bootstrap_interval(answers, groups)


def test_one_group_of_test_videos_has_no_interval(tmp_path: Path) -> None:
    groups = ["same" if video in SPLIT.test else video for video in IDS]
    results = evaluate(COMMON_RETRIEVAL, make(tmp_path / "f", groups=list(groups)), SPLIT)
    assert {result.interval for result in results} == {None}


def test_provenance_says_what_the_number_depends_on(tmp_path: Path) -> None:
    request = {"seed": 5, "fidelity": "released", "version": "3", "architecture": {"w": 1}}
    features = make(tmp_path / "a", **request)
    provenance = evaluate(COMMON_RETRIEVAL, features, SPLIT)[0].provenance
    assert provenance is not None
    assert (provenance.fingerprint, provenance.seed, provenance.fidelity) == (
        "f" * 64,
        5,
        "released",
    )
    assert provenance.clip == clip_to_json(CLIP)
    assert provenance.options["architecture"] == {"w": 1}
    assert provenance.options["protocol"] == "common-retrieval/1@10x3"
    assert provenance.code_version.startswith("fake 3, core ")

    again = evaluate(COMMON_RETRIEVAL, features, SPLIT)[0].provenance
    swapped = replace(SPLIT, train=SPLIT.train[1:], test=(*SPLIT.test, SPLIT.train[0]))
    relabelled = make(
        tmp_path / "b",
        labels=["c1", *[video.split("/")[0] for video in IDS[1:]]],
        **request,
    )
    others = [
        evaluate(COMMON_SVM, features, SPLIT)[0].provenance,
        evaluate(COMMON_RETRIEVAL, features, SPLIT, seed=1)[0].provenance,
        evaluate(COMMON_RETRIEVAL, features, swapped)[0].provenance,
        evaluate(COMMON_RETRIEVAL, relabelled, SPLIT)[0].provenance,
    ]
    assert again == provenance and again.digest == provenance.digest
    digests = {other.digest for other in others if other is not None}
    assert len(digests | {provenance.digest}) == 5


def test_views_of_sound_are_clips_over_time_alone(tmp_path: Path) -> None:
    clip = ClipSpec("sound", Samples(100, 100), None, "zeros")
    features = make(tmp_path / "f", clip=clip_to_json(clip), modality="sound", views=[10, 1])
    assert evaluate(COMMON_SVM, features, SPLIT)[0].key.protocol == "common-svm/1@10x3"
    with pytest.raises(ProtocolError, match="has 10x1 views of each video, common-svm/1@2x3 needs"):
        evaluate("common-svm@2x3", features, SPLIT)


BAD_SPLITS = {
    "overlap": (
        replace(SPLIT, test=(*SPLIT.test, *SPLIT.train[:2])),
        r"mine split all has 2 videos in both training and test, first: 'c0/0.mp4'",
    ),
    "repeated": (
        replace(SPLIT, train=(*SPLIT.train, SPLIT.train[4])),
        r"mine split all lists 1 training videos twice, first: 'c0/4.mp4'",
    ),
    "empty": (replace(SPLIT, test=()), "mine split all has no test videos"),
    "absent": (
        replace(SPLIT, test=(*SPLIT.test, "c9/x.mp4", "c9/y.mp4")),
        r"2 of 42 videos are not among the 120 of the features, first: 'c9/x.mp4' \(the features "
        r"begin with 'c0/0.mp4'\)",
    ),
    "unseen class": (
        replace(SPLIT, train=tuple(v for v in SPLIT.train if v[:2] != "c3")),
        r"1 classes occur only in the test videos, first: 'c3'",
    ),
}


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_splits_that_cannot_be_evaluated(tmp_path: Path, name: str) -> None:
    split, message = BAD_SPLITS[name]
    with pytest.raises(ProtocolError, match=message):
        evaluate(COMMON_SVM, make(tmp_path / "f"), split)


def test_features_that_cannot_be_evaluated(tmp_path: Path) -> None:
    nan = values_of(IDS)
    nan[[12, 13], 3] = [np.nan, np.inf]
    labels = [None if video == "c0/2.mp4" else video[:2] for video in IDS]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"values": nan}, r"features of 2 of 40 videos hold NaN or infinity, first: 'c0/12.mp4'"),
        ({"labels": labels}, r"1 of 80 videos have no label, first: 'c0/2.mp4'"),
        ({"failed": SPLIT.test}, "all 40 videos of a part failed"),
        ({"kind": "scores"}, r"holds scores, common-svm/1@10x3 needs features"),
        (
            {"views": [2, 1]},
            r"has 2x1 views of each video, common-svm/1@10x3 needs 10x3: extract with --views "
            r"10x3, or ask for common-svm@2x1",
        ),
    ]
    for number, (options, message) in enumerate(cases):
        with pytest.raises(ProtocolError, match=message):
            evaluate(COMMON_SVM, make(tmp_path / str(number), **options), SPLIT)
    with pytest.raises(ProtocolError, match="there are no features"):
        evaluate(COMMON_SVM, [], SPLIT)


def test_features_of_several_encoders_are_never_mixed(tmp_path: Path) -> None:
    train = make(tmp_path / "train", list(SPLIT.train))
    others: dict[str, Any] = {
        "fingerprint": "e" * 64,
        "weights": "other",
        "clip": clip_to_json(replace(CLIP, when_short="loop")),
    }
    for name, value in others.items():
        test = make(tmp_path / name, list(SPLIT.test), **{name: value})
        with pytest.raises(ProtocolError, match=f"train are not of one encoder: {name} "):
            evaluate(COMMON_SVM, [train, test], SPLIT)
    twice = make(tmp_path / "twice", [*SPLIT.test, SPLIT.train[5]])
    with pytest.raises(ProtocolError, match=r"1 videos are listed twice in .*, first: 'c0/5.mp4'"):
        evaluate(COMMON_SVM, [train, twice], SPLIT)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("common-svm", ["common-svm/1@10x3"]),
        ("common-svm/1@2x1", ["common-svm/1@2x1"]),
        ("common@2x1", ["common-svm/1@2x1", "common-retrieval/1@2x1"]),
        ("common-retrieval, common-svm@4x1", ["common-retrieval/1@10x3", "common-svm/1@4x1"]),
    ],
)
def test_protocols_are_read_as_a_user_writes_them(text: str, names: list[str]) -> None:
    assert [str(request) for request in parse_protocols(text)] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common-knn", "'common-knn' is no protocol; there is common-svm, common-retrieval"),
        ("common-svm@0x1", "'common-svm@0x1' is no protocol"),
        ("common-svm@10", "'common-svm@10' is no protocol"),
        ("common-svm/2", "'common-svm/2': this release has version 1 of common-svm"),
        ("", "'' is no protocol"),
    ],
)
def test_other_words_are_no_protocols(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_protocols(text)


def test_importing_protocols_and_results_loads_nothing_heavy() -> None:
    code = (
        "import sys, ssvideo_core.protocols, ssvideo_core.results\n"
        "print(sorted({'av', 'PIL', 'sklearn', 'scipy', 'torch'} & set(sys.modules)))"
    )
    source = str(Path(protocols.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
