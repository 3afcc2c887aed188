"""Real methods in real processes on real videos, from flags to files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shared_eval.cli import main
from ssvideo_core.features import open_features
from ssvideo_core.results import read_results

# Notes each load, so that a test sees whether an encoder was needed.
COUNTING = """
with open({log!r}, "a") as file:
    file.write(__name__ + "\\n")
"""


def run(videos: Path, out: Path, *words: object, methods: str, code: int = 0) -> list:
    flags = {"--data": videos / "list.csv", "--dataset": "mine", "--out": out, "--methods": methods}
    given = [str(word) for flag in flags.items() for word in flag]
    assert main(["run", *given, *map(str, words)]) == code
    file = out / "results.jsonl"
    return read_results(file) if file.exists() else []


FAST = ("--protocols", "common-retrieval@1x1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "loaded.txt"


@pytest.fixture
def two_methods(add_method, encoder_text: str, log: Path) -> str:
    """One that sees the colours, and one whose encoder sees nothing but noise."""
    counting = COUNTING.format(log=str(log))
    add_method("colour", encoder=encoder_text + counting)
    # Decided by the sum of a clip's pixels: the same again and again, but about nothing.
    blind = "np.array([np.random.default_rng(int(c.sum())).random(3) for c in clips], np.float32)"
    mean = "clips.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)"
    add_method("blind", encoder=encoder_text.replace(mean, blind).replace('"a"', '"b"') + counting)
    return "colour@good,blind"


def test_two_methods_two_splits_two_protocols(
    two_methods: str, videos: Path, tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    results = run(videos, out, "--protocols", "common@2x1", methods=two_methods)
    shown = capsys.readouterr().out
    found = {(r.key.method, r.key.split, r.key.protocol, r.key.metric): r for r in results}
    svm, retrieval = "common-svm/1@2x1", "common-retrieval/1@2x1"
    metrics = {svm: ("top1",), retrieval: ("recall@1", "recall@5", "recall@10")}
    assert set(found) == {
        (method, split, protocol, metric)
        for method in ("colour", "blind")
        for split in "12"
        for protocol, names in metrics.items()
        for metric in names
    }
    for split in "12":
        assert found["colour", split, svm, "top1"].value == 1.0
        assert found["colour", split, retrieval, "recall@1"].value == 1.0
        assert found["blind", split, svm, "top1"].value < 0.9
    for result in results:
        assert (result.n, result.failed, result.source) == (9, 0, "run")
        assert result.key.dataset == "mine" and result.key.backbone == "mean"
        assert result.key.weights == {"colour": "good", "blind": "random"}[result.key.method]
        low, high = result.interval
        assert 0 <= low <= result.value <= high <= 1
    assert shown.startswith(f"run: {out}\n")
    assert shown.rstrip().endswith(str(out / "report.html"))
    row = next(line for line in shown.splitlines() if line.startswith("colour"))
    assert row.split()[:5] == ["colour", "good", "mean", "rgb", "2×16²"]
    assert row.count("100.0 [") == 2 and row.endswith("100.0")
    assert "blind   random (untrained)" in shown
    folders = sorted(folder.name[:-9] for folder in (out / "features").iterdir())
    assert folders == ["blind-random-rgb", "colour-good-rgb"]
    assert log.read_text().splitlines() == ["colour.encoder", "blind.encoder"]


def test_files_of_a_run(two_methods: str, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    results = run(videos, out, *FAST, methods=two_methods)
    names = {path.name for path in out.iterdir()}
    tables = {"results.jsonl", "table.csv", "table.md", "report.html"}
    assert names == tables | {"features", "run.json", "evaluated.jsonl"}
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert [float(row["value"]) for row in rows] == [result.value for result in results]
    page = (out / "report.html").read_text()
    assert "CC-BY 4.0" in page
    assert "27 videos, 3 classes; split 1: 18 training, 9 test" in page
    record = json.loads((out / "run.json").read_text())
    (invocation,) = record["invocations"]
    assert [e["licence"] for e in invocation["extracted"]] == ["CC-BY 4.0", ""]
    assert invocation["command"][:4] == ["python", "-m", "shared_eval", "run"]


def test_what_is_done_is_not_done_again(
    two_methods: str, videos: Path, tmp_path: Path, log: Path, capsys, monkeypatch
) -> None:
    out = tmp_path / "run"
    first = run(videos, out, *FAST, methods=two_methods)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    log.unlink()

    def never(*arguments: object) -> None:
        raise AssertionError("evaluated again")

    with monkeypatch.context() as patch:
        patch.setattr("shared_eval.run.evaluate", never)
        assert run(videos, out, *FAST, methods=two_methods) == first
    assert not log.exists()
    assert capsys.readouterr().err.count("is done") == 4
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    (out / "results.jsonl").unlink()
    assert run(videos, out, *FAST, methods=two_methods) == first


def test_a_folder_grows(two_methods: str, videos: Path, tmp_path: Path, log: Path) -> None:
    out = tmp_path / "run"
    first = run(videos, out, *FAST, "--splits", "1", methods="colour@good")
    second = run(videos, out, *FAST, "--splits", "1,2", methods="colour@good")
    third = run(videos, out, *FAST, "--splits", "1", "--size", "8", methods="colour@good")
    assert second[: len(first)] == first and third[: len(second)] == second
    assert len(first) == 3 and len(second) == 6 and len(third) == 9
    assert [r.provenance.clip["pixels"]["size"] for r in third[::3]] == [16, 16, 8]
    assert len(log.read_text().splitlines()) == 2  # other splits need no other features
    record = json.loads((out / "run.json").read_text())
    assert len(record["invocations"]) == 3


def test_views_of_protocols_are_extracted_once_each(
    two_methods: str, videos: Path, tmp_path: Path, log: Path
) -> None:
    out = tmp_path / "run"
    protocols = "common-retrieval@1x1,common-retrieval@2x1,common-svm@1x1"
    results = run(videos, out, "--protocols", protocols, "--splits", "1", methods="colour@good")
    found = sorted({result.key.protocol for result in results})
    assert found == ["common-retrieval/1@1x1", "common-retrieval/1@2x1", "common-svm/1@1x1"]
    views = {open_features(folder).info.views for folder in (out / "features").iterdir()}
    assert views == {(1, 1), (2, 1)}
    assert len(log.read_text().splitlines()) == 2


def test_a_failing_method_is_told_and_the_others_go_on(
    two_methods: str, add_method, videos: Path, tmp_path: Path, capsys
) -> None:
    add_method("crash", encoder="raise RuntimeError('out of <memory>')")
    out = tmp_path / "run"
    methods = f"crash,nothing,colour@best,{two_methods}"
    results = run(videos, out, *FAST, "--splits", "1", methods=methods, code=2)
    assert {result.key.method for result in results} == {"colour", "blind"}
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("not done")]
    assert [line.partition(":")[2].partition(":")[0] for line in told] == [
        " crash@random, extract",
        " nothing@random, describe",
        " colour@best, extract",
    ]
    assert told[0].endswith("its last line: RuntimeError: out of <memory>")
    assert told[2].endswith("colour extract: no weights 'best'; say random or good")
    page = (out / "report.html").read_text()
    assert "RuntimeError: out of &lt;memory&gt;" in page
    assert "has no method &#x27;nothing&#x27;" in page

    add_method("crash")
    run(videos, out, *FAST, "--splits", "1", methods="crash", code=0)
    problems = [i["problems"] for i in json.loads((out / "run.json").read_text())["invocations"]]
    assert [p["subject"] for p in problems[0]] == ["nothing@random", "colour@best"]
    assert problems[1] == []


def test_labels_and_files_of_weights(
    add_method, encoder_text: str, videos: Path, tmp_path: Path
) -> None:
    anything = encoder_text.replace('weights not in ("random", "good")', "not weights")
    file_print = '"a" * 64\n        self.fingerprint = __import__("hashlib").sha256(w).hexdigest()'
    anything = anything.replace('"a" * 64', file_print).replace(
        "def __init__(self", "def __init__(self, w"
    )
    anything = anything.replace("return Encoder()", "return Encoder(open(weights, 'rb').read())")
    add_method("reader", encoder=anything)
    weights, out = tmp_path / "w.npy", tmp_path / "run"
    weights.write_bytes(b"one")
    words = (*FAST, "--splits", "1")
    first = run(videos, out, *words, methods=f"reader@{weights}")
    assert {result.key.weights for result in first} == {"w"}
    weights.write_bytes(b"two")
    second = run(videos, out, *words, methods=f"reader@mine={weights}")
    assert [result.key.weights for result in second] == ["w"] * 3 + ["mine"] * 3
    prints = {result.provenance.fingerprint for result in second}
    assert len(prints) == 2
    assert len(list((out / "features").iterdir())) == 2


def test_method_options_reach_the_method(add_method, videos: Path, tmp_path: Path) -> None:
    add_method("colour")
    out = tmp_path / "run"
    option = "colour=--architecture width=0.25,name='a b'"
    words = (*FAST, "--splits", "1", "--method-options", option)
    (result, *_) = run(videos, out, *words, methods="colour@good")
    assert result.provenance.options["architecture"] == {"width": 0.25, "name": "a b"}


def test_damaged_features_are_repaired(two_methods: str, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run(videos, out, *FAST, methods="colour@good")
    (folder,) = (out / "features").iterdir()
    (folder / "block-000000.safetensors").write_bytes(b"damaged")
    assert run(videos, out, *FAST, methods="colour@good") == first
    assert len(open_features(folder).matrix()[0]) == 27


def test_unreadable_videos_are_counted(two_methods: str, videos: Path, tmp_path: Path) -> None:
    data = tmp_path / "copy"
    for file in videos.rglob("*.mp4"):
        target = data / file.relative_to(videos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(
            b"" if file.name == "0.mp4" and "red" in str(file) else file.read_bytes()
        )
    (data / "list.csv").write_bytes((videos / "list.csv").read_bytes())
    results = run(data, tmp_path / "run", *FAST, methods="colour@good")
    assert {(result.key.split, result.n, result.failed) for result in results} == {
        ("1", 8, 1),
        ("2", 9, 1),
    }
    assert "1 videos of the split could not be used" in (tmp_path / "run/table.md").read_text()


def test_class_folders_with_split_files(two_methods: str, videos: Path, tmp_path: Path) -> None:
    flags = ["--data", str(videos), "--split-files", str(videos / "list.csv"), "--splits", "2"]
    out = tmp_path / "run"
    assert main(["run", *flags, "--out", str(out), "--methods", "colour@good", *FAST]) == 0
    keys = {(r.key.dataset, r.key.split) for r in read_results(out / "results.jsonl")}
    assert keys == {("a folder; with & signs", "2")}
    splits = ["--data", str(videos), "--splits", str(videos / "list.csv")]
    assert main(["run", *splits, "--out", str(out), "--methods", "colour@good", *FAST]) == 0
    assert len(list((out / "features").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--splits", "4"], "has no split named 4; there is 1, 2"),
        (["--protocols", "linear"], "'linear' is no protocol; there is common-svm"),
        (["--python", "colour=/no/python"], "no program /no/python"),
        (["--methods", "colour", "--methods", "blind"], "--methods is given twice"),
        (["--dataset", "hmdb51"], "lacks 5100 of the 5100 videos of split 1 of hmdb51, first: '"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_told_before_any_work(
    videos: Path, tmp_path: Path, capsys, words: list[str], message: str
) -> None:
    defaults = {"--methods": "colour", "--data": str(videos / "list.csv"), "--out": tmp_path / "o"}
    rest = [str(w) for f, v in defaults.items() if words[0] != f for w in (f, v)]
    assert main(["run", *rest, *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("shared_eval run: ")
    assert message in error
    assert not (tmp_path / "o" / "features").exists()


def test_videos_without_labels(tmp_path: Path, capsys) -> None:
    lines = ["video,split", "0.mp4,train", "1.mp4,test"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    for number in range(2):
        (tmp_path / f"{number}.mp4").touch()
    data = str(tmp_path / "list.csv")
    assert main(["run", "--data", data, "--out", str(tmp_path / "o"), "--methods", "colour"]) == 2
    message = "has no label for 2 videos of split all of list, first: '0.mp4'. Use class folders"
    assert message in capsys.readouterr().err


def test_an_interruption_ends_the_method_and_can_go_on(
    add_method, encoder_text: str, videos: Path, tmp_path: Path
) -> None:
    mark, go = tmp_path / "pid", tmp_path / "go"
    wait = f"""
import os, pathlib, time
pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))
while not pathlib.Path({str(go)!r}).exists():
    time.sleep(0.05)
"""
    add_method("slow", encoder=encoder_text + wait)
    out = tmp_path / "run"
    words = ["--methods", "slow", "--data", str(videos / "list.csv"), "--out", str(out), *FAST]
    command = [sys.executable, "-m", "shared_eval", "run", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (mark.exists() and mark.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert errors.rstrip().endswith("the same command goes on where it stopped")
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    go.touch()
    assert main(["run", *words]) == 0
    assert len(read_results(out / "results.jsonl")) == 6
