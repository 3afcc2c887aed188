from __future__ import annotations

import csv
from collections import Counter
from importlib import resources

import pytest
from shared_eval.papers import paper_results

FILE = resources.files("shared_eval").joinpath("data", "papers.csv")


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(FILE.read_text("utf-8").splitlines()))


def find(**fields: str) -> list:
    return [
        result
        for result in paper_results()
        if all(getattr(result.key, name) == value for name, value in fields.items())
    ]


def test_every_row_is_a_result() -> None:
    assert len(paper_results()) == len(rows()) == 82
    counts = Counter(result.key.method for result in paper_results())
    assert counts == {"brave": 31, "selavi": 21, "gdt_stica": 8, "vicc": 12, "sce": 10}
    for row, result in zip(rows(), paper_results(), strict=True):
        assert result.value == pytest.approx(float(row["value"]) / 100, rel=1e-15)
        assert (result.source, result.details["note"]) == (row["source"], row["note"])
        assert result.details["stated"] == row["value"]
        assert result.provenance is None and result.interval is None and result.n is None


def test_values_are_exact_fractions() -> None:
    (result,) = find(method="brave", weights="va-f-1x", split="1")
    assert result.value == 0.71307
    assert result.details["stated"] == "71.307"


def test_splits_have_the_names_of_results() -> None:
    splits = {result.key.split for result in paper_results()}
    assert splits == {"1", "2", "3", "mean", "not stated", "val", "train"}
    (mean,) = find(method="brave", weights="vvvv-1x", dataset="hmdb51", split="mean")
    assert mean.value == 0.654


def test_swapped_columns_are_told() -> None:
    (result,) = find(method="gdt_stica", weights="gdt_HT100M", dataset="hmdb51")
    assert result.value == 0.674
    assert result.details["note"] == "columns swapped in the README (printed 94.1 under HMDB51)"
    swapped = [r for r in paper_results() if "swapped" in r.details["note"]]
    assert len(swapped) == 4


def test_two_numbers_for_one_key_are_both_kept() -> None:
    found = find(weights="vgg_sound", dataset="vggsound", metric="nmi")
    assert [result.value for result in found] == [0.559, 0.546]


def test_weights_that_were_never_released() -> None:
    found = find(weights="stica_K400")
    assert len(found) == 2
    assert not any(result.details["released"] for result in found)


@pytest.mark.parametrize(
    ("fields", "modality"),
    [
        ({"method": "vicc", "weights": "rgb-cross"}, "rgb"),
        ({"method": "vicc", "weights": "flow-cross"}, "flow"),
        ({"method": "vicc", "weights": "rgb-cross+flow-cross"}, "rgb+flow"),
        ({"method": "selavi", "protocol": "selavi-clustering"}, "rgb+sound"),
        ({"method": "selavi", "protocol": "selavi-finetune"}, "rgb"),
        ({"dataset": "esc50"}, "sound"),
        ({"method": "sce"}, "rgb"),
    ],
)
def test_modality(fields: dict[str, str], modality: str) -> None:
    assert {result.key.modality for result in find(**fields)} == {modality}
