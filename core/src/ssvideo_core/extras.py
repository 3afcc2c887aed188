"""Modules that only some users need: an extra of the package installs each."""

from __future__ import annotations

import importlib
from typing import Any

from ssvideo_core.errors import ConfigError


def optional_module(name: str, extra: str) -> Any:
    """Import a module of an extra. Raises ConfigError that says what to install if it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the module {name} is needed and cannot be imported ({error}): "
            f"pip install 'ssvideo-core[{extra}]'"
        ) from None
