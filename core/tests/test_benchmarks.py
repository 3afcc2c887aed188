from __future__ import annotations

import csv
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from ssvideo_core.testing.benchmarks import in_one_word, publish, timed


def test_a_table_says_what_it_was_measured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSVIDEO_BENCHMARKS", str(tmp_path / "results"))
    rows = [["one, two", 1], ["three", 2]]
    publish("speed", ("what", "ms"), iter(rows), packages=("numpy",))
    (file,) = (tmp_path / "results").iterdir()
    start = f"speed-python{platform.python_version()}-numpy{np.__version__}-"
    assert file.name.startswith(start) and file.suffix == ".csv"
    found = list(csv.reader(file.read_text().splitlines()))
    assert found == [["what", "ms"], ["one, two", "1"], ["three", "2"]]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"# python {platform.python_version()}, numpy {np.__version__}, ")
    assert printed[1:4] == file.read_text().splitlines()


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSVIDEO_BENCHMARKS", raising=False)
    monkeypatch.chdir(tmp_path)
    publish("speed", ("what",), [[1]], packages=())
    assert not list(tmp_path.iterdir())


def test_settings_in_one_word() -> None:
    words = ["python 3.11.7", "numpy 2.4.6", "2 x Intel(R) Xeon(R)"]
    assert in_one_word(words) == "python3.11.7-numpy2.4.6-2x-intel-r-xeon-r"


def test_time_is_that_of_the_call() -> None:
    seconds, size = timed(lambda: np.ones(1_000_000).nbytes, threads=1)
    assert size == 8_000_000
    assert 0 < seconds < 60


def test_peak_memory_is_that_of_the_process() -> None:
    """A fresh one, because the peak of this one lies in tests before."""
    program = """
        import numpy as np
        from ssvideo_core.testing.benchmarks import peak_mb

        print(peak_mb())
        np.ones(20_000_000)
        print(peak_mb())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 100 < after - before < 250
