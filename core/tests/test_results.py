from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ssvideo_core.errors import DataError
from ssvideo_core.results import Key, Provenance, Result, append_results, read_results

KEY = Key("gdt", "random", "R(2+1)D-18", "rgb", "hmdb51", "1", "common-svm/1@10x3", "top1")
PROVENANCE = Provenance(
    fingerprint="ab" * 32,
    data_hash="cd" * 32,
    clip={"modality": "rgb", "time": {"kind": "Spread", "num_frames": 30, "span_s": 1.0}},
    options={"Cs": [0.1, 1.0], "über": None},
    seed=0,
    fidelity="default",
    code_version="0.1.0",
)
RUN = Result(KEY, 0.123456789012345, (0.1, 0.2), n=1530, failed=2, provenance=PROVENANCE)
PAPER = Result(
    replace(KEY, weights="k400", protocol="paper\u2028'quoted'"), 0.6, source="Table 4, row 2"
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    append_results(path, [RUN])
    append_results(path, [PAPER, replace(RUN, value=1.0, details={"C": 0.1})])
    append_results(path, [])
    assert read_results(path) == [RUN, PAPER, replace(RUN, value=1.0, details={"C": 0.1})]
    assert os.listdir(path.parent) == ["results.jsonl"]
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert [json.loads(line)["schema"] for line in lines] == [1, 1, 1]


def test_a_file_without_a_final_line_end_is_continued_on_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_results(path, [RUN])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    append_results(path, [PAPER])
    assert read_results(path) == [RUN, PAPER]


def test_nothing_is_written_when_one_result_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_results(path, [RUN])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float values"):
        append_results(path, [PAPER, replace(RUN, value=float("nan"))])
    assert path.read_bytes() == before


APPEND_MANY = """
import sys
from pathlib import Path
from ssvideo_core.results import Key, Result, append_results

for number in range(20):
    result = Result(Key(*"abcdefgh"), 0.5, n=100 * int(sys.argv[2]) + number)
    append_results(Path(sys.argv[1]), [result] * 3)
"""


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    command = [sys.executable, "-c", APPEND_MANY, str(path)]
    workers = [subprocess.Popen([*command, str(who)]) for who in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    numbers = [result.n for result in read_results(path)]
    assert len(numbers) == 180
    assert numbers[::3] == numbers[1::3] == numbers[2::3]  # the lines of one call stay together
    for who in range(3):
        mine = [n for n in numbers[::3] if n is not None and n // 100 == who]
        assert mine == [100 * who + number for number in range(20)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not a result"),
        ("[1]", "line 2: not a result"),
        ('{"schema": 7}', "line 2: not a result of schema 1 .schema 7, this version reads 1"),
        ('{"schema": 1, "value": 3}', "line 2: not a result of schema 1 .'key'"),
    ],
)
def test_a_line_that_is_no_result_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "results.jsonl"
    append_results(path, [RUN])
    with path.open("a") as file:
        file.write(line + "\n\n")
    with pytest.raises(DataError, match=f"results.jsonl, {message}"):
        read_results(path)


def test_unknown_and_missing_fields_are_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_results(path, [RUN])
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["key"]["split"]
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="missing 1 required positional argument: 'split'"):
        read_results(path)
    record["key"]["split"], record["extra"] = "1", 3
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="unexpected keyword argument 'extra'"):
        read_results(path)


def test_absent_files_and_binary_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl does not exist; expected results"):
        read_results(tmp_path / "none.jsonl")
    (tmp_path / "video.mp4").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(DataError, match=r"video.mp4 is no text in UTF-8"):
        read_results(tmp_path / "video.mp4")


def test_the_digest_depends_on_every_field_and_on_no_order() -> None:
    turned = replace(PROVENANCE, options=dict(reversed(list(PROVENANCE.options.items()))))
    assert turned.digest == PROVENANCE.digest
    changed = [
        replace(PROVENANCE, fingerprint="0"),
        replace(PROVENANCE, data_hash="0"),
        replace(PROVENANCE, clip={}),
        replace(PROVENANCE, options={"Cs": [0.1, 1.0]}),
        replace(PROVENANCE, seed=1),
        replace(PROVENANCE, fidelity="released"),
        replace(PROVENANCE, code_version="0.1.1"),
    ]
    digests = {p.digest for p in changed} | {PROVENANCE.digest}
    assert len(digests) == 8 and all(len(digest) == 64 for digest in digests)


def test_the_digest_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    append_results(tmp_path / "r.jsonl", [RUN])
    read = read_results(tmp_path / "r.jsonl")[0].provenance
    assert read is not None and read.digest == PROVENANCE.digest


def test_a_line_for_a_person() -> None:
    assert RUN.describe() == (
        "gdt random rgb, hmdb51 split 1, common-svm/1@10x3: top1 12.35 % [10.00, 20.00], "
        "1530 videos, 2 left out"
    )
    grouped = replace(RUN, failed=0, details={"test_groups": 400})
    assert grouped.describe().endswith("[10.00, 20.00], 1530 videos in 400 groups")
    alone = replace(RUN, failed=0, details={"test_groups": 1530})
    assert alone.describe().endswith("1530 videos (no groups known)")
    chosen = replace(PAPER, selected_on_test=True, key=replace(KEY, protocol="gdt-finetune"))
    assert chosen.describe() == (
        "gdt random rgb, hmdb51 split 1, gdt-finetune: top1 60.00 %, selected on the test split"
    )
