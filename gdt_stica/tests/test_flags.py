"""What is asked of numbers, and which flags were given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from gdt_stica.flags import check_numbers, flag, given_flags, ignored, ignored_flags, spelled
from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    batch_size: int | None = flag("batch-size", 8, "clips")
    base_lr: float | None = flag("base_lr", 0.1, "rate")
    momentum: float | None = option(0.9, help="of SGD")
    sound_rate: int | None = flag("sound_rate", 50, "of sound")
    use_lars: bool = ignored("use_lars", False)


def check(**values: Any) -> None:
    check_numbers(
        Settings(**values),
        positive=["batch_size"],
        not_negative=["base_lr"],
        below_one=["momentum"],
        between={"sound_rate": (10, 100)},
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "--batch-size 0: expected more than 0"),
        ("batch_size", math.inf, "--batch-size inf: expected more than 0"),
        ("batch_size", math.nan, "--batch-size nan: expected more than 0"),
        ("base_lr", -0.5, "--base_lr -0.5: expected 0 or more"),
        ("base_lr", math.inf, "--base_lr inf: expected 0 or more"),
        ("base_lr", math.nan, "--base_lr nan: expected 0 or more"),
        ("momentum", 1.0, "--momentum 1.0: expected 0 up to below 1"),
        ("momentum", -0.1, "--momentum -0.1: expected 0 up to below 1"),
        ("momentum", math.nan, "--momentum nan: expected 0 up to below 1"),
        ("sound_rate", 9, "--sound_rate 9: expected 10 to 100"),
        ("sound_rate", 101, "--sound_rate 101: expected 10 to 100"),
        ("sound_rate", math.nan, "--sound_rate nan: expected 10 to 100"),
    ],
)
def test_numbers_outside_of_their_range(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(**{name: value})
    assert str(caught.value) == message


def test_numbers_at_the_ends_and_those_not_given() -> None:
    check(batch_size=1, base_lr=0.0, momentum=0.0, sound_rate=10)
    check(sound_rate=100)
    check(batch_size=None, base_lr=None, momentum=None, sound_rate=None)


def test_flags_that_were_given() -> None:
    settings = Settings(batch_size=4, base_lr=0.1, use_lars=True)
    assert given_flags(settings, ["batch_size", "base_lr", "momentum"]) == ["--batch-size"]
    assert ignored_flags(settings) == ["--use_lars"]
    assert [spelled(settings, name) for name in ("batch_size", "momentum")] == [
        "--batch-size",
        "--momentum",
    ]
