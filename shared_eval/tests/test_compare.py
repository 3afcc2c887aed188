from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from shared_eval.cli import main
from shared_eval.record import Invocation, write_invocation
from ssvideo_core.results import append_results, read_results


@pytest.fixture
def runs(tmp_path: Path, make_result) -> tuple[Path, Path]:
    """A run folder with two splits of one method, and a file with another method."""
    folder, file = tmp_path / "run", tmp_path / "others.jsonl"
    brave = {"method": "brave", "weights": "va-f-1x"}
    append_results(folder / "results.jsonl", [make_result(0.7, split=s, **brave) for s in "12"])
    command = ("python", "-m", "shared_eval", "run")
    write_invocation(folder, Invocation(command, "d", "hmdb51", 3, 2, {"1": (2, 1)}, ("common",)))
    results = [make_result(0.1), make_result(0.3, metric="top5"), make_result(dataset="ucf101")]
    append_results(file, results)
    return folder, file


def compare(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["compare", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_runs_and_papers_are_joined(runs, capsys) -> None:
    lines = compare(capsys, *runs, "--dataset", "hmdb51").splitlines()
    assert lines[0] == "hmdb51: linear SVM on frozen features, common-svm/1@10x3, top1 in %"
    assert [" ".join(line.split()) for line in lines[1:6]] == [
        "paper: brave-svm paper: brave-svm",
        "method weights backbone input split 1 split 2 split 1 split 2",
        "-" * len(lines[3]),
        "brave va-f-1x net rgb 8×56² 70.0 [60.0, 80.0] 70.0 [60.0, 80.0] 71.3 (1) 68.5",
        "m w net rgb 8×56² 10.0 [0.0, 20.0]",
    ]
    assert "ucf101" not in "\n".join(lines)


def test_papers_can_be_left_out_or_all_shown(runs, capsys) -> None:
    assert "paper" not in compare(capsys, *runs, "--papers", "none")
    every = compare(capsys, *runs, "--papers", "all")
    assert "In the papers:" in every
    assert every.count("brave-svm") == 2 + 18


def test_metrics_are_chosen(runs, capsys) -> None:
    shown = compare(capsys, *runs, "--metric", "top5")
    assert "top5 in %" in shown and "top1" not in shown
    assert "top5 in %" in compare(capsys, *runs, "--metric", "all")


def test_the_same_result_in_two_places_counts_once(runs, capsys) -> None:
    once = compare(capsys, *runs)
    assert compare(capsys, *runs, runs[0] / "results.jsonl", *runs) == once


@pytest.mark.parametrize(("papers", "stated"), [("none", 0), ("matching", 2), ("all", 31)])
def test_csv_and_json_lines(runs, capsys, tmp_path: Path, papers: str, stated: int) -> None:
    text = compare(capsys, *runs, "--format", "csv", "--papers", papers)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["source"] == "run" for row in rows] == [True] * 5 + [False] * stated
    file = tmp_path / "joined.jsonl"
    file.write_text(compare(capsys, *runs, "--format", "jsonl", "--papers", papers))
    joined = read_results(file)
    assert joined[:5] == read_results(runs[0] / "results.jsonl") + read_results(runs[1])
    assert len(joined) == len(rows)


def test_markdown(runs, capsys) -> None:
    shown = compare(capsys, *runs, "--format", "markdown", "--papers", "none")
    assert "### hmdb51: linear SVM on frozen features" in shown
    assert "| brave | va-f-1x | net |" in shown


def test_files_are_written(runs, capsys, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    compare(capsys, *runs, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "table.csv", "table.md"]
    page = (out / "report.html").read_text()
    assert "Methods compared on hmdb51, ucf101" in page
    assert "python -m shared_eval run" in page
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert len(rows) == 5 + 31
    assert "top5 in %" in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "k400"], "--dataset: no result is about k400; there is hmdb51, ucf101"),
        (["--metric", "map"], "--metric: no result is about map; there is top1, top5"),
    ],
)
def test_names_that_do_not_occur(runs, capsys, words: list[str], message: str) -> None:
    assert main(["compare", *map(str, runs), *words]) == 2
    assert message in capsys.readouterr().err


def test_wrong_places(tmp_path: Path, capsys) -> None:
    assert main(["compare", str(tmp_path / "absent.jsonl")]) == 2
    assert "absent.jsonl does not exist" in capsys.readouterr().err
    assert main(["compare", str(tmp_path)]) == 2
    assert "is no folder of a run: it has no results.jsonl" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "results.jsonl").write_text('{"schema": 1}\n')
    assert main(["compare", str(tmp_path)]) == 2
    assert "results.jsonl, line 1: not a result" in capsys.readouterr().err
    (tmp_path / "results.jsonl").write_text("")
    assert main(["compare", str(tmp_path)]) == 2
    assert "run.json is not the record of a run" in capsys.readouterr().err
