"""What is said of an option whose value is none of those there are."""

from __future__ import annotations

from collections.abc import Sequence

from ssvideo_core.errors import ConfigError


def check_choice(what: str, found: object, choices: Sequence[object]) -> None:
    """Raise ConfigError unless `found` is one of `choices`. what: the option and its value."""
    if found not in choices:
        raise ConfigError(f"{what}: expected one of {', '.join(map(str, choices))}")
