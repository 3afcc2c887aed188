"""What may stand in one column, and what stands beside it."""

from __future__ import annotations

import pytest
from shared_eval.join import (
    ALL_METRICS,
    PAPER,
    RUN,
    Block,
    Cell,
    Column,
    join,
    other_papers,
    row_of,
)
from shared_eval.papers import MEAN, paper_results

OTHER_CLIP = {"modality": "rgb", "time": {"num_frames": 16}, "pixels": {"size": 112}}


def only(blocks: list[Block]) -> Block:
    (block,) = blocks
    return block


def values(block: Block, kind: str = RUN) -> dict[tuple[str, str], float]:
    return {
        (f"{row.method}@{row.weights}", column.split): cell.value
        for (row, column), cell in block.cells.items()
        if column.kind == kind
    }


def test_protocols_views_and_data_sets_are_never_mixed(make_result) -> None:
    results = [
        make_result(0.1),
        make_result(0.2, protocol="common-svm/1@2x1"),
        make_result(0.3, protocol="common-svm/2@10x3"),
        make_result(0.4, protocol="brave-svm"),
        make_result(0.5, dataset="ucf101"),
        make_result(0.6, protocol="common-retrieval/1@10x3", metric="recall@1"),
    ]
    blocks = join(results)
    assert len(blocks) == 6
    for block in blocks:
        assert len(values(block)) == 1
        assert {column.protocol for column in block.columns} == {block.protocol}
    assert [block.dataset for block in blocks] == ["hmdb51"] * 5 + ["ucf101"]


def test_the_first_metric_unless_asked(make_result) -> None:
    names = ("recall@10", "recall@5", "recall@1")
    results = [make_result(metric=m, protocol="common-retrieval/1@10x3") for m in names]
    results.append(make_result(metric="map", protocol="own"))
    assert [block.metric for block in join(results)] == ["recall@1", "map"]
    assert [block.metric for block in join(results, metrics=["recall@5"])] == ["recall@5"]
    every = [block.metric for block in join(results, metrics=[ALL_METRICS])]
    assert every == ["recall@1", "recall@5", "recall@10", "map"]


def test_rows_are_ordered_and_untrained_ones_come_first(make_result) -> None:
    names = [("b", "x"), ("a", "z"), ("a", "random"), ("a", "y"), ("b", "untrained-small")]
    block = only(join([make_result(method=m, weights=w) for m, w in names]))
    assert [(row.method, row.weights) for row in block.rows] == [
        ("a", "random"),
        ("a", "y"),
        ("a", "z"),
        ("b", "untrained-small"),
        ("b", "x"),
    ]
    assert [row.untrained for row in block.rows] == [True, False, False, True, False]


def test_means_need_all_three_official_splits(make_result) -> None:
    two = [make_result(0.1 * s, split=str(s)) for s in (1, 2)]
    assert [column.title for column in only(join(two)).columns] == ["split 1", "split 2"]
    three = [*two, make_result(0.6, split="3"), make_result(0.5, method="other", split="1")]
    block = only(join(three))
    assert [column.title for column in block.columns] == ["split 1", "split 2", "split 3", "mean"]
    assert values(block, MEAN) == {("m@w", "mean"): pytest.approx(0.3)}
    cell = block.cells[block.rows[0], Column(MEAN, "mean", block.protocol)]
    assert cell.interval is None


def test_means_over_own_splits_need_those_of_the_column(make_result) -> None:
    results = [make_result(0.2, dataset="mine", split=split) for split in ("a", "b")]
    results.append(make_result(0.4, dataset="mine", split="a", method="other"))
    assert values(only(join(results)), MEAN) == {("m@w", "mean"): 0.2}


def test_splits_are_ordered_as_numbers(make_result) -> None:
    results = [make_result(dataset="mine", split=split) for split in ("10", "all", "2", "1")]
    splits = [c.split for c in only(join(results)).columns if c.kind == RUN]
    assert splits == ["1", "2", "10", "all"]


def test_encoders_with_equal_names_are_two_rows(make_result) -> None:
    results = [make_result(0.1), make_result(0.2, clip=OTHER_CLIP), make_result(0.3, seed=1)]
    block = only(join(results))
    assert [row.input for row in block.rows] == ["rgb 16×112²", "rgb 8×56²"]
    results.append(make_result(0.4, fingerprint="another"))
    assert len(only(join(results)).rows) == 3


def test_the_last_of_equal_keys_is_shown_and_told(make_result) -> None:
    block = only(join([make_result(0.1), make_result(0.2), make_result(0.3, seed=1)]))
    (cell,) = block.cells.values()
    assert cell.value == 0.3
    assert cell.notes == ("the last of 2 results with this key; table.csv has all",)


def test_failed_videos_and_selection_on_test_are_told(make_result) -> None:
    block = only(join([make_result(failed=2, selected_on_test=True)]))
    (cell,) = block.cells.values()
    assert cell.notes == (
        "2 videos of the split could not be used and are left out",
        "the best of several, selected by this very number on the test split",
    )


def test_columns_over_different_videos_are_told(make_result) -> None:
    results = [
        make_result(method="a"),
        make_result(method="b", data_hash="fewer videos"),
        make_result(method="a", split="2"),
        make_result(method="b", split="2"),
    ]
    block = only(join(results))
    assert {column.split for column in block.notes} == {"1"}
    assert "not about the same videos" in block.notes[block.columns[0]]


def test_input_of_sound_and_of_unknown_clips(make_result) -> None:
    time = {"kind": "Samples", "num_samples": 48000, "rate_hz": 24000}
    sound = make_result(modality="sound", clip={"modality": "sound", "time": time, "pixels": None})
    assert row_of(sound).input == "sound 2 s"
    assert row_of(make_result(modality="flow", clip={})).input == "flow"


def brave(make_result, split: str, **fields) -> object:
    fields = {"method": "brave", "weights": "va-f-1x", "split": split, **fields}
    return make_result(0.7, **fields)


def papers_beside(block: Block) -> dict[str, float]:
    return {
        column.title: cell.value
        for (_, column), cell in block.cells.items()
        if column.kind == PAPER
    }


def test_papers_stand_beside_their_row_in_their_own_column(make_result) -> None:
    results = [brave(make_result, "1"), make_result(method="gdt_stica", weights="gdt_K400")]
    block = only(join(results, paper_results()))
    assert papers_beside(block) == {
        "paper: brave-svm\nsplit 1": 0.71307,
        "paper: gdt-finetune\nsplit not stated": 0.623,
    }
    for (row, column), _ in block.cells.items():
        if column.kind == PAPER:
            assert column.protocol.startswith(row.method[:3])


def test_the_papers_mean_stands_beside_the_mean(make_result) -> None:
    block = only(join([brave(make_result, str(s)) for s in (1, 2, 3)], paper_results()))
    assert papers_beside(block) == {"paper: brave-svm\nmean": 0.692}


@pytest.mark.parametrize(
    "fields",
    [{"weights": "random"}, {"modality": "sound"}, {"dataset": "mine"}, {"metric": "top5"}],
)
def test_papers_of_other_numbers_do_not_stand_beside(make_result, fields) -> None:
    blocks = join([brave(make_result, "1", **fields)], paper_results(), metrics=[ALL_METRICS])
    assert papers_beside(only(blocks)) == {}


def test_two_numbers_of_one_paper_are_both_told(make_result) -> None:
    fields = {"method": "selavi", "weights": "vgg_sound", "modality": "rgb+sound"}
    own = {"dataset": "vggsound", "split": "train", "protocol": "selavi-clustering"}
    block = only(join([make_result(metric="nmi", **fields, **own)], paper_results()))
    (cell,) = [cell for (_, column), cell in block.cells.items() if column.kind == PAPER]
    assert cell == Cell(
        0.559,
        None,
        (
            "README: 309 clusters; the detail table of the same README says 54.6",
            "README, vgg_sound (detail table): 54.6",
        ),
    )


def test_other_papers_are_those_of_the_methods_that_stand_nowhere(make_result) -> None:
    blocks = join([brave(make_result, "1")], paper_results())
    others = other_papers(blocks, paper_results())
    assert len(others) == 30
    assert {paper.key.method for paper in others} == {"brave"}
    assert not [p for p in others if p.key.weights == "va-f-1x" and p.key.split == "1"]
