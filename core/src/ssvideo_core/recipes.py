"""Recipes: a command with its flags, as a user would type them, in a TOML file.

    about = "Features of a folder of videos, two clips each"
    command = "extract"                  # python -m METHOD extract; else python -m METHOD.<command>
    [flags]
    "--weights" = "random"
    "--videos" = "{data}"
    "--out" = "{out}/features"

A list is a flag with several values. `{data}` and `{out}` stand for what the user brings.
"""

from __future__ import annotations

import importlib.resources
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

from ssvideo_core.errors import ConfigError

DATA, OUT = "{data}", "{out}"
SUBCOMMANDS = ("describe", "extract", "evaluate", "recipes", "check-data", "convert")


@dataclass(frozen=True)
class Recipe:
    """name: of the file without .toml. flags: spelled as on the command line."""

    name: str
    about: str
    command: str
    flags: Mapping[str, Any]

    def arguments(self, *, data: str, out: str) -> list[str]:
        """The flags as an argument list, with the user's data and output folder filled in."""
        words: list[str] = []
        for flag, value in self.flags.items():
            values = value if isinstance(value, list) else [value]
            words += [flag, *(str(v).replace(DATA, data).replace(OUT, out) for v in values)]
        return words

    def needs(self, placeholder: str) -> bool:
        """Whether any flag mentions the placeholder."""
        return any(placeholder in str(value) for value in self.flags.values())

    def command_line(self, package: str, *, data: str = "DATA", out: str = "OUT") -> str:
        """What a user would type."""
        start = ["python", "-m", *module_and_arguments(package, self.command)]
        return shlex.join([*start, *self.arguments(data=data, out=out)])


def module_and_arguments(package: str, command: str) -> list[str]:
    """`extract` is a subcommand of every package; `main_gdt` is a module of one."""
    return [package, command] if command in SUBCOMMANDS else [f"{package}.{command}"]


def load_recipes(package: str) -> dict[str, Recipe]:
    """All recipes of an installed package, sorted by name; empty without a recipes folder."""
    folder = importlib.resources.files(package) / "recipes"
    if not folder.is_dir():
        return {}
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {file.name[:-5]: _read(file) for file in files}


def find_recipe(package: str, name: str) -> Recipe:
    """The recipe called `name`. Raises ConfigError that lists the others."""
    recipes = load_recipes(package)
    if name not in recipes:
        known = ", ".join(recipes) or "none"
        raise ConfigError(f"{package} has no recipe '{name}'; it has: {known}")
    return recipes[name]


def _read(file: Traversable) -> Recipe:
    try:
        record = tomllib.loads(file.read_text(encoding="utf-8"))
        return Recipe(file.name[:-5], record["about"], record["command"], dict(record["flags"]))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file} is not a recipe ({error}); it needs about, command and [flags]"
        ) from None
