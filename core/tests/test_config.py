from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ssvideo_core import config as configs
from ssvideo_core.config import option


@dataclass(frozen=True)
class Train:
    """Train something."""

    root_dir: Path = option(help="folder", flags=("--root_dir", "--root-dir"))
    epochs: int = option(200, help="how many, 100% of the data each")
    lr: float = option(0.01, help="learning rate")
    use_mlp: bool = option(True, help="MLP head", flags=("--use_mlp",))
    milestones: tuple[int, ...] = option((150, 175), help="epochs")
    model: str = option("av", help="which", choices=("av", "text"))
    size: int | None = option(None, help="side")
    workers: int = option(0, help="processes", operational=True)


def parse(*words: str) -> Train:
    return configs.parse(Train, ["--root_dir", "x", *words], prog="train")


def test_defaults_and_values() -> None:
    assert parse() == Train(Path("x"))
    found = parse("--epochs", "3", "--use_mlp", "No", "--milestones", "1", "2", "--size", "56")
    assert found == Train(Path("x"), epochs=3, use_mlp=False, milestones=(1, 2), size=56)


def test_both_spellings() -> None:
    assert configs.parse(Train, ["--root-dir", "y"], prog="train").root_dir == Path("y")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--use_mlp", "maybe"], "'maybe' is neither yes nor no"),
        (["--model", "sound"], "invalid choice"),
        (["--epo", "3"], "unrecognized arguments: --epo"),
    ],
)
def test_wrong_flags_exit_with_2(words: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_bare_switch_is_a_yes() -> None:
    assert parse("--use_mlp", "no", "--epochs", "3").use_mlp is False
    assert parse("--use_mlp", "--epochs", "3").use_mlp is True


def test_required_flag_is_named(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        configs.parse(Train, [], prog="train")
    assert end.value.code == 2
    assert "--root_dir" in capsys.readouterr().err


def test_help_states_defaults(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        configs.parse(Train, ["--help"], prog="train")
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "how many, 100% of the data each (default: 200)" in shown
    assert "epochs (default: 150 175)" in shown
    assert "Train something." in shown


def test_check_only_reads_flags_and_stops() -> None:
    with pytest.raises(SystemExit) as end:
        parse("--check-only")
    assert end.value.code == 0


def test_digest_ignores_what_cannot_change_a_result() -> None:
    base = parse()
    assert configs.digest(base) == configs.digest(replace(base, workers=8))
    assert configs.digest(base) != configs.digest(replace(base, lr=0.02))
    assert len(configs.digest(base)) == 10


def test_to_json() -> None:
    record = configs.to_json(parse())
    assert record["root_dir"] == "x"
    assert record["milestones"] == [150, 175]
