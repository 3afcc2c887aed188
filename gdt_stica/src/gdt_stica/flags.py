"""What the fields of the commands' configurations are made with, and what their numbers may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError

NO_EFFECT = "without effect"


def flag(name: str, default: Any, text: str, **more: Any) -> Any:
    """A field that --NAME fills. text: its help. more: of `ssvideo_core.config.option`."""
    return option(default, flags=(f"--{name}",), help=text, **more)


def ignored(name: str, default: Any, why: str = "as in the original") -> Any:
    """A flag that is accepted, because published scripts pass it, and that changes nothing."""
    return flag(name, default, f"{NO_EFFECT}, {why}", operational=True)


def ignored_flags(config: Any) -> list[str]:
    """Flags without effect that were given another value than their default."""
    names = [f.name for f in fields(config) if f.metadata["help"].startswith(NO_EFFECT)]
    return given_flags(config, names)


def given_flags(config: Any, names: Sequence[str]) -> list[str]:
    """Of the fields `names`, the flags of those that have another value than their default."""
    defaults = {field.name: field.default for field in fields(config)}
    return [spelled(config, name) for name in names if getattr(config, name) != defaults[name]]


def spelled(config: Any, name: str) -> str:
    """The flag of a field, as its first spelling is."""
    flags = type(config).__dataclass_fields__[name].metadata["flags"]
    return str(flags[0]) if flags else "--" + name.replace("_", "-")


def check_numbers(
    config: Any,
    *,
    positive: Sequence[str],
    not_negative: Sequence[str] = (),
    below_one: Sequence[str] = (),
    between: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Raise ConfigError, with the flag, for a number that is outside of its range, or is none.

    Names of fields; one that is None was not given. positive: more than 0. not_negative: 0 or more.
    below_one: 0 up to below 1. between: from the first number to the second.
    """
    for name in positive:
        _check(config, name, lambda value: 0 < value < math.inf, "more than 0")
    for name in not_negative:
        _check(config, name, lambda value: 0 <= value < math.inf, "0 or more")
    for name in below_one:
        _check(config, name, lambda value: 0 <= value < 1, "0 up to below 1")
    for name, (least, most) in (between or {}).items():
        _check(config, name, partial(_lies, least, most), f"{least} to {most}")


def _check(config: Any, name: str, fits: Callable[[float], bool], expected: str) -> None:
    value = getattr(config, name)
    if value is not None and not fits(value):
        raise ConfigError(f"{spelled(config, name)} {value}: expected {expected}")


def _lies(least: float, most: float, value: float) -> bool:
    return least <= value <= most
