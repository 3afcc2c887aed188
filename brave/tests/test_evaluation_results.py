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
from brave.evaluation_results import prepare, published_weights, results, summary
from brave.method import METHOD
from brave.published_numbers import published_top1
from brave.records import RecordFacts
from ssvideo_core.evaluate.intervals import bootstrap_interval

HMDB51 = [f"wave/film{n // 2}_wave_f_nm_np1_fr_goo_{n % 2}.avi" for n in range(6)]
CONFIG = EvaluateVideoEmbeddings("w.npy", 8, ("a*",), ("b*",), 1e-4, dataset="hmdb51", split="2")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    architecture = Architecture(1 / 64)
    tensors = {
        name: np.zeros(s, "f4") for name, s in backbone_shapes("rgb", architecture.width).items()
    }
    parts = [
        {n.removeprefix(start): a for n, a in tensors.items() if n.startswith(start)}
        for start in ("params/", "state/")
    ]
    return Checkpoint(Path("w.npy"), *parts, architecture)


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


def test_published_weights_have_their_name(checkpoint: Checkpoint) -> None:
    published = replace(checkpoint, published=METHOD.weights[0])
    top1, _ = results(evaluation(HMDB51), config=CONFIG, checkpoint=published)
    assert top1.key.weights == METHOD.weights[0].name


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
    assert published_weights(checkpoint) is None
    for record in METHOD.weights:
        assert published_weights(replace(checkpoint, path=Path("x") / record.file)) == record


def test_the_mean_stands_beside_the_published_one(checkpoint: Checkpoint) -> None:
    found = {
        "1": {"top_1_test": 0.5, "top_5_test": 1.0},
        "2": {"top_1_test": 0.25, "top_5_test": 0},
    }
    config = replace(CONFIG, split="", dataset="ucf101")
    assert summary({"1": found["1"]}, config, checkpoint) == found["1"]
    own = {"splits": found, "mean": {"top_1_test": 0.375, "top_5_test": 0.5}}
    assert summary(found, config, checkpoint) == own
    published = replace(checkpoint, published=METHOD.weights[3])
    beside = {"weights": "vvvv-1x", "top_1_test": {"not stated": 0.926}}
    assert summary(found, config, published) == {**own, "published": beside}
    assert summary(found, replace(config, dataset="mine"), published) == own


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
