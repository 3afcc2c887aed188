from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ssvideo_core import runs
from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError


@dataclass(frozen=True)
class Train:
    lr: float = option(0.01, help="rate")
    workers: int = option(0, help="processes", operational=True)


def test_same_settings_same_folder(tmp_path: Path) -> None:
    assert runs.run_folder(tmp_path, "demo", Train()) == runs.run_folder(
        tmp_path, "demo", Train(workers=3)
    )
    assert runs.run_folder(tmp_path, "demo", Train()) != runs.run_folder(
        tmp_path, "demo", Train(lr=0.1)
    )
    assert runs.run_folder(tmp_path, "demo", Train()).name.startswith("demo-")


def test_records(tmp_path: Path) -> None:
    folder = runs.start_run(tmp_path / "run", Train(), ["python", "-m", "vicc", "a b"])
    assert json.loads((folder / "config.json").read_text())["config"] == {"lr": 0.01, "workers": 0}
    assert (folder / "command.txt").read_text() == "python -m vicc 'a b'\n"
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["distributions"]["numpy"]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    folder = runs.start_run(tmp_path, Train(), [])
    runs.start_run(folder, Train(workers=4), [])
    with pytest.raises(ConfigError, match=r"lr: 0\.01 there, 0\.1 now.*--resume-anyway"):
        runs.start_run(folder, Train(lr=0.1), [])
    runs.start_run(folder, replace(Train(), lr=0.1), [], resume_anyway=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}'])
def test_a_foreign_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json is not a run's record"):
        runs.start_run(tmp_path, Train(), [])


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    runs.append_json_line(path, {"step": 1, "loss": 0.5})
    runs.append_json_line(path, {"step": 2, "loss": 0.25})
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [0.5, 0.25]
