from __future__ import annotations

import argparse
from pathlib import Path

from ssvideo_core.testing.learning import Learner, Row, planned, write_rows


def learner(name: str, **seeds: tuple[int, ...]) -> Learner:
    def unused(*_: object) -> None:
        raise AssertionError("nothing is trained here")

    return Learner(name, "method", unused, unused, unused, **seeds)


LEARNERS = [learner("one"), learner("two three", data_seeds=(1,), network_seeds=(0,))]


def test_runs_are_those_of_the_learners_by_the_data() -> None:
    options = argparse.Namespace(learners=["one", "two three"], seeds=None, network_seeds=None)
    found = [(data, which.name, network) for data, which, network in planned(LEARNERS, options)]
    one = [(data, "one", network) for data in (1, 2) for network in (0, 1, 2)]
    assert found == [*one[:3], (1, "two three", 0), *one[3:]]


def test_the_command_may_say_other_seeds() -> None:
    options = argparse.Namespace(learners=["two three"], seeds=[5, 4], network_seeds=[7])
    runs = planned(LEARNERS, options)
    assert [(data, network) for data, _, network in runs] == [(4, 7), (5, 7)]
    assert runs[0][1].run(Path("out"), 4, 7) == Path("out/run-two-three-4-7")


def test_tables_have_one_decimal_place(tmp_path: Path) -> None:
    write_rows([Row("one", 1, None, "histogram", 12.345, 6.0)], tmp_path / "rows.csv")
    header, line = (tmp_path / "rows.csv").read_text().splitlines()
    assert header.startswith("learner,data_seed,network_seed,features,svm,recall_at_1")
    assert line == "one,1,,histogram,12.3,6.0,,,,,"
