"""Configuration files, and `--config.KEY=VALUE` on a command line.

A file is a Python program with a function `get_config`, as ml_collections has them. It is executed.
Which keys there are, and of which type, is what `configs/config.py` says.
"""

from __future__ import annotations

import ast
import difflib
import logging
import runpy
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssvideo_core.config import read_bool
from ssvideo_core.errors import ConfigError

logger = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "configs" / "config.py"
PREFIX = "--config."
# Ends the path that is the packaged file where there is no such file.
PACKAGED_AS = ("brave", "config.py")

Config = dict[str, Any]
"""Key such as "model.output_dims" to bool, int, float, str or (nested) tuple."""


def find_config(path: Path) -> Path:
    """The file that `--config` means.

    That is the file itself; or, for a path that ends in brave/config.py, the packaged
    configuration where there is no such file (or it is this package's module of that name).
    Raises ConfigError for any other path without a file.
    """
    flags_module = Path(__file__).with_name("config.py")
    if path.is_file() and not path.samefile(flags_module):
        return path
    if path.parts[-2:] == PACKAGED_AS:
        return PACKAGED
    raise ConfigError(
        f"--config={path}: there is no such file; expected a Python file with a function "
        f"get_config. Start from a copy of {PACKAGED}"
    )


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The packaged configuration, changed by the file and then by the words of a command line.

    overrides: `--config.KEY=VALUE`, or `--config.KEY` and `VALUE`; a bare `--config.KEY` is yes.
    Raises ConfigError for a file that cannot be executed or has no `get_config`, a key that does
    not exist, naming similar ones, and a value of another type.
    """
    known = dict(_flat(_execute(PACKAGED)))
    found = known
    if path != PACKAGED:
        logger.info("executing the configuration %s", path)
        found = {**known}
        for key, value in _flat(_execute(path), leaves=known):
            where = f"{path}: {key}"
            found[key] = _as_type(_known(key, known, where), value, where)
    else:
        logger.info("executing the packaged configuration %s", path)
    for key, text in _pairs(overrides):
        where = f"{PREFIX}{key}"
        found = {**found, key: _from_text(_known(key, known, where), text, where)}
    return {key: _as_type(known[key], found[key], key) for key in known}


def _execute(path: Path) -> Mapping[str, Any]:
    try:
        names = runpy.run_path(str(path))
        config = names["get_config"]()
    except Exception as error:
        # It is the user's program, so whatever it raises is the user's to mend.
        raise ConfigError(
            f"{path}: executing it failed ({error!r}); expected a Python file with a function "
            "get_config that returns a ConfigDict"
        ) from error
    plain = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(plain, Mapping):
        raise ConfigError(
            f"{path}: get_config returned a {type(plain).__name__}, expected a ConfigDict"
        )
    return plain


def _flat(
    tree: Mapping[str, Any], start: str = "", leaves: Collection[str] = ()
) -> Iterator[tuple[str, Any]]:
    """leaves: keys whose values may be mappings."""
    for name, value in tree.items():
        key = f"{start}{name}"
        if isinstance(value, Mapping) and value and key not in leaves:
            yield from _flat(value, f"{key}.", leaves)
        else:
            yield key, value


def _known(key: str, known: Mapping[str, Any], where: str) -> Any:
    """The packaged value of a key. Raises ConfigError, naming similar keys, when there is none."""
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    advice = ", ".join(dict.fromkeys([*same, *near]))
    raise ConfigError(
        f"{where}: there is no such key"
        + (f"; similar ones are {advice}" if advice else "")
        + f". All keys are in {PACKAGED}"
    )


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Keys with their texts; None for a key without one."""
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith(PREFIX):
            raise ConfigError(f"'{word}' is no flag; see --help")
        key, given, text = word.removeprefix(PREFIX).partition("=")
        if not given and left and not left[0].startswith("--"):
            given, text = "=", left.pop(0)
        yield key, text if given else None


def _from_text(default: Any, text: str | None, where: str) -> Any:
    """A value as a user types it, read by the type of the packaged one."""
    if text is None:
        if isinstance(default, bool):
            return True
        raise ConfigError(f"{where}: a value is missing, such as {where}={_shown(default)}")
    try:
        if isinstance(default, bool):
            return read_bool(text)
        if isinstance(default, tuple):
            return _read_tuple(text)
        return type(default)(text)
    except (ValueError, TypeError, SyntaxError):
        raise ConfigError(f"{where}={text}: expected {_expected(default)}") from None


def _read_tuple(text: str) -> tuple[Any, ...]:
    """ "a,b", or a Python list or tuple; TypeError for what only looks like one, such as (5)."""
    if text.startswith(("(", "[")):
        return tuple(ast.literal_eval(text))
    return tuple(part for part in text.split(",") if part)


def _as_type(default: Any, value: Any, where: str) -> Any:
    """A value of a file with the type of the packaged one: lists and dicts become tuples."""
    if isinstance(default, tuple):
        if isinstance(value, Mapping):
            value = tuple(value.items())
        if isinstance(value, list | tuple):
            return _tuples(value)
    elif isinstance(default, float) and type(value) is int:
        return float(value)
    elif type(value) is type(default):
        return value
    raise ConfigError(f"{where} is {value!r}, expected {_expected(default)}")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _expected(default: Any) -> str:
    kinds = {bool: "yes or no", int: "a whole number", float: "a number", str: "a word"}
    return kinds.get(type(default), "a list such as a,b or ('a', 'b')")


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
