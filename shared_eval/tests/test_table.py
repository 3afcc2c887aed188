from __future__ import annotations

import csv
import io
from dataclasses import replace

from shared_eval.join import join, other_papers
from shared_eval.papers import paper_results
from shared_eval.table import (
    as_csv,
    as_json_lines,
    as_markdown,
    as_text,
    grid,
    papers_grid,
    row_texts,
)
from ssvideo_core.results import read_results

TEXT = """\
hmdb51: linear SVM on frozen features, common-svm/1@10x3, top1 in %
                                                                                  paper: x-svm
method  weights             backbone  input      split 1            split 2       split not stated
--------------------------------------------------------------------------------------------------
m       random (untrained)  net       rgb 8×56²  25.0 [15.0, 35.0]
m       w                   net       rgb 8×56²  61.2 [51.2, 71.2]  60.0 (1) (2)  67.4 (3)
  (1) 3 videos of the split could not be used and are left out
  (2) the best of several, selected by this very number on the test split
  (3) README: columns swapped in the README (printed 94.1 under HMDB51)
"""
MARKDOWN = """\
### mine: own\\|x, top1 in %

| method | weights | backbone | input | split 1 | split 2 (1) | mean |
| --- | --- | --- | --- | --- | --- | --- |
| a\\_b | w\\|\\*\\` \\<b\\> | net | rgb 8×56² |  | 50.0 \\[40.0, 60.0\\] |  |
| c | w | net | rgb 8×56² | 50.0 \\[40.0, 60.0\\] | 50.0 \\[40.0, 60.0\\] | 50.0 |

(1) its rows are not about the same videos
"""


def test_text(make_result) -> None:
    (paper,) = (r for r in paper_results() if "94.1 under" in r.details["note"])
    paper = replace(paper, key=replace(paper.key, method="m", weights="w", protocol="x-svm"))
    told = {"failed": 3, "selected_on_test": True, "interval": None}
    results = [make_result(0.612), make_result(0.6, split="2", **told)]
    results.append(make_result(0.25, weights="random"))
    assert as_text(map(grid, join(results, [paper]))) == TEXT


def test_tables_are_apart_and_nothing_gives_nothing(make_result) -> None:
    blocks = join([make_result(), make_result(dataset="other")])
    parts = as_text(map(grid, blocks)).split("\n\n")
    assert [part.partition(":")[0] for part in parts] == ["hmdb51", "other"]
    assert as_text([]) == as_markdown([]) == ""


def test_markdown_escapes(make_result) -> None:
    own = {"dataset": "mine", "protocol": "own|x"}
    results = [
        make_result(method="a_b", weights="w|*` <b>", split="2", **own),
        make_result(method="c", split="1", **own),
        make_result(method="c", split="2", data_hash="others", **own),
    ]
    shown = as_markdown(map(grid, join(results)))
    start, _, note = shown.rpartition("\n(1) ")
    assert note.startswith("its rows are not about the same videos")
    assert start == MARKDOWN.rpartition("\n(1) ")[0]


def test_rows_that_look_equal_get_the_digest_of_their_encoder(make_result) -> None:
    (block,) = join([make_result(fingerprint=name) for name in "ab"])
    texts = row_texts(block.rows)
    assert sorted(texts.values()) == sorted(
        ("m", f"w #{row.encoder[:8]}", "net", "rgb 8×56²") for row in block.rows
    )
    assert len(set(texts.values())) == 2


def test_csv_has_every_number_in_full(make_result) -> None:
    results = [make_result(1 / 3, failed=2), make_result(weights="random", interval=None, n=None)]
    rows = list(csv.DictReader(io.StringIO(as_csv([*results, paper_results()[0]]))))
    assert [float(row["value"]) for row in rows] == [1 / 3, 0.5, 0.71307]
    assert (float(rows[0]["low"]), float(rows[0]["high"])) == (1 / 3 - 0.1, 1 / 3 + 0.1)
    assert [row["n"] for row in rows] == ["100", "", ""]
    assert [row["failed"] for row in rows] == ["2", "0", "0"]
    assert [row["low"] for row in rows[1:]] == ["", ""]
    assert [row["untrained"] for row in rows] == ["no", "yes", "no"]
    assert [row["source"] for row in rows] == ["run", "run", "README"]
    assert rows[2]["note"] == "C=0.0001; not trained with the released trainer"
    assert rows[0]["fingerprint"] == "mw"


def test_json_lines_are_read_by_core(make_result, tmp_path) -> None:
    results = [make_result(1 / 3), paper_results()[0]]
    file = tmp_path / "r.jsonl"
    file.write_text(as_json_lines(results), encoding="utf-8")
    assert read_results(file) == results


def test_other_papers_show_the_number_as_it_is_stated(make_result) -> None:
    blocks = join([make_result(method="gdt_stica", weights="gdt_K400")], paper_results())
    table = papers_grid(other_papers(blocks, paper_results()))
    assert len(table.rows) == 7
    assert table.rows[-2] == (
        *("gdt_stica", "stica_K400", "R(2+1)D-18", "rgb", "hmdb51", "not stated", "gdt-finetune"),
        *("top1", "67.0"),
        "README; headers swapped in the README (printed under UCF101); weights never released",
    )
