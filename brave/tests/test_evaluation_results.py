from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brave.architecture import Architecture
from brave.backbones import backbone_shapes
from brave.checkpoints import Checkpoint
from brave.config import EvaluateVideoEmbeddings
from brave.evaluation import Evaluation, Features, Ranks
from brave.evaluation_results import (
    prepare,
    published_numbers,
    published_weights,
    results,
    summary,
)
from brave.method import METHOD
from brave.published_numbers import published_top1
from brave.records import RecordFacts
from ssvideo_core.evaluate.intervals import bootstrap_interval

HMDB51 = [f"wave/film{n // 2}_wave_f_nm_np1_fr_goo_{n % 2}.avi" for n in range(6)]
CONFIG = EvaluateVideoEmbeddings("w.npy", 8, ("a*",), ("b*",), 1e-4, dataset="hmdb51", split="2")
ONE = Architecture(1)


def zeros(width: float) -> Checkpoint:
    architecture = Architecture(width)
    tensors = {
        name: np.zeros(s, "f4") for name, s in backbone_shapes("rgb", architecture.width).items()
    }
    parts = [
        {n.removeprefix(start): a for n, a in tensors.items() if n.startswith(start)}
        for start in ("params/", "state/")
    ]
    return Checkpoint(Path("w.npy"), *parts, architecture)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return zeros(1 / 64)


def evaluation(names: Sequence[str | None]) -> Evaluation:
    ranks = Ranks(np.array([0, 3]), np.array([0, 1, 0, 2, 0, 7]))
    nothing = Features(np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    facts = [RecordFacts(0, 5, 40, 60, name) for name in names]
    return Evaluation(ranks, nothing, nothing, facts[:2], facts)


def test_numbers_stand_beside_those_of_papers(checkpoint: Checkpoint) -> None:
    top1, top5 = results(evaluation(HMDB51), config=CONFIG, checkpoint=checkpoint)
    assert (top1.key.metric, top1.value, top5.key.metric, top5.value) == (
        "top1",
        0.5,
        "top5",
        5 / 6,
    )
    assert (top1.key.dataset, top1.key.split, top1.n) == ("hmdb51", "2", 6)
    assert top1.key.weights == "w.npy"
    groups = [0, 0, 1, 1, 2, 2]
    assert top1.interval == bootstrap_interval([1, 0, 1, 0, 1, 0], groups, seed=0)
    assert top1.details == {"training_clips": 0.5, "test_groups": 3}


def test_published_weights_have_their_name_where_numbers_can_be_compared(
    checkpoint: Checkpoint,
) -> None:
    record = METHOD.weights[0]
    published = replace(zeros(1), path=Path(record.file))
    other_clip = replace(CONFIG, num_video_frames=16)
    for config, found, label in (
        (CONFIG, published, record.name),
        (other_clip, published, "w.npy"),
        (CONFIG, replace(checkpoint, path=Path(record.file)), "w.npy"),
    ):
        top1, _ = results(evaluation(HMDB51), config=config, checkpoint=found)
        assert top1.key.weights == label


@pytest.mark.parametrize(
    ("names", "dataset"),
    [
        ([None] * 6, "hmdb51"),
        (["a.avi"] * 6, "hmdb51"),
        (HMDB51, "mine"),
        (HMDB51[:2] * 3, "hmdb51"),
    ],
)
def test_without_groups_there_is_no_interval(
    names: list[str | None], dataset: str, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, dataset=dataset)
    with caplog.at_level(logging.WARNING):
        top1, _ = results(evaluation(names), config=config, checkpoint=checkpoint)
    assert top1.interval is None
    assert "test_groups" not in top1.details


def test_what_changes_numbers_changes_the_digest(checkpoint: Checkpoint) -> None:
    def digest(config: EvaluateVideoEmbeddings) -> str:
        (top1, _) = results(evaluation(HMDB51), config=config, checkpoint=checkpoint)
        assert top1.provenance is not None
        return top1.provenance.digest

    for change in (
        {"seed": 1},
        {"svm_regularization": 1.0},
        {"train_epochs": 3},
        {"video_step": 1},
        {"image_size": 112},
    ):
        assert digest(replace(CONFIG, **change)) != digest(CONFIG)
    for same in ({"workers": 3}, {"out": Path("x")}, {"device": "cpu"}):
        assert digest(replace(CONFIG, **same)) == digest(CONFIG)


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        prepare(tmp_path / "file" / "out")
    prepare(tmp_path / "new")
    assert (tmp_path / "new" / "results.jsonl").read_text() == ""


def test_a_published_file_is_known_by_its_name(checkpoint: Checkpoint) -> None:
    assert published_weights(CONFIG, replace(checkpoint, architecture=ONE)) is None
    for record in METHOD.weights:
        found = replace(checkpoint, architecture=Architecture(record.architecture["width"]))
        for file in (
            replace(found, path=Path("x") / record.file),
            replace(found, published=record),
        ):
            assert published_weights(CONFIG, file) == record


@pytest.mark.parametrize(
    "changed",
    [
        {"svm_regularization": 1e-3},
        {"num_video_frames": 16},
        {"video_step": 1},
        {"image_size": 112},
        {"train_epochs": 1},
    ],
)
def test_other_settings_do_not_reproduce_published_numbers(
    changed: dict[str, float], checkpoint: Checkpoint
) -> None:
    config = replace(CONFIG, **changed)
    found = replace(checkpoint, published=METHOD.weights[2], architecture=ONE)
    assert published_weights(CONFIG, found) is not None
    assert published_weights(config, found) is None
    assert published_numbers(config, found) == {}


@pytest.mark.parametrize("width", [2, 1 / 8])
def test_another_width_is_not_the_published_network(width: float, checkpoint: Checkpoint) -> None:
    found = replace(checkpoint, path=Path("29466668_1_0.npy"), architecture=Architecture(width))
    assert published_weights(CONFIG, found) is None


@pytest.mark.parametrize(
    ("splits", "split", "stated"),
    [
        (("1", "2"), "", {"1": 70.131, "2": 68.889}),
        (("3", "1", "2"), "", {"mean": 69.4, "1": 70.131, "2": 68.889, "3": 69.085}),
        (("1", "2", "b"), "", {"1": 70.131, "2": 68.889}),
        ((), "3", {"3": 69.085}),
        ((), "", {}),
    ],
)
def test_the_published_mean_is_of_three_splits(
    splits: tuple[str, ...], split: str, stated: dict[str, float], checkpoint: Checkpoint
) -> None:
    found = replace(checkpoint, published=METHOD.weights[2], architecture=ONE)
    config = replace(CONFIG, split=split, splits=splits)
    assert published_numbers(config, found) == stated
    ucf101 = replace(config, dataset="ucf101")
    assert published_numbers(ucf101, found) == {"not stated": 93.0}


def test_the_mean_stands_beside_the_published_one(checkpoint: Checkpoint) -> None:
    found = {
        "1": {"top_1_test": 0.5, "top_5_test": 1.0},
        "2": {"top_1_test": 0.25, "top_5_test": 0},
    }
    config = replace(CONFIG, split="", splits=("1", "2"), dataset="ucf101")
    assert summary({"1": found["1"]}, config, checkpoint) == found["1"]
    own = {"splits": found, "mean": {"top_1_test": 0.375, "top_5_test": 0.5}}
    assert summary(found, config, checkpoint) == own
    published = replace(checkpoint, published=METHOD.weights[3], architecture=ONE)
    beside = {"weights": "vvvv-1x", "top_1_test": {"not stated": 0.926}}
    assert summary(found, config, published) == {**own, "published": beside}
    of_hmdb51 = summary(found, replace(config, dataset="hmdb51"), published)
    assert of_hmdb51["published"]["top_1_test"] == {"1": 0.66797, "2": 0.63856}
    assert summary(found, replace(config, dataset="mine"), published) == own
    assert summary(found, replace(config, svm_regularization=1.0), published) == own


def test_published_numbers_are_those_of_the_table() -> None:
    """The README has one row for each file: name, mean, three splits, UCF101, Kinetics-600."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines()]
    table = {row[0]: row[1:] for row in rows if len(row) == 7 and "." in row[1]}
    assert list(table) == [record.name for record in METHOD.weights]
    for name, cells in table.items():
        mean, *splits, ucf101, _ = map(float, cells)
        stated = published_top1(name, "hmdb51")
        assert stated == dict(zip(("mean", "1", "2", "3"), (mean, *splits), strict=True))
        assert abs(sum(splits) / 3 - mean) <= 0.0501
        assert published_top1(name, "ucf101") == {"not stated": ucf101}
    assert published_top1("va-1x", "kinetics") == published_top1("random", "hmdb51") == {}
