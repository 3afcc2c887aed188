"""What the fields of the commands' configurations are made with."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ssvideo_core.config import option

NO_EFFECT = "without effect"


def flag(name: str, default: Any, text: str, **more: Any) -> Any:
    """A field that --NAME fills. text: its help. more: of `ssvideo_core.config.option`."""
    return option(default, flags=(f"--{name}",), help=text, **more)


def ignored(name: str, default: Any, why: str = "as in the original") -> Any:
    """A flag that is accepted, because published scripts pass it, and that changes nothing."""
    return flag(name, default, f"{NO_EFFECT}, {why}", operational=True)


def ignored_flags(config: Any) -> list[str]:
    """Flags without effect that were given another value than their default."""
    return [
        field.metadata["flags"][0]
        for field in fields(config)
        if field.metadata["help"].startswith(NO_EFFECT)
        and getattr(config, field.name) != field.default
    ]
