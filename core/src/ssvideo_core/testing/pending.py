"""Reference cases that a package cannot run yet, named by kind and parameters, never by id.

`tests/golden_pending.toml`:

    kinds = ["transformer", "crop_support"]        # whole kinds
    stica_step = true                              # the same
    gdt_nce = {hypothesis = [2, 3]}                # cases with one of these values
    state_dict = [{"arch.model" = "stica"}, {"arch.base" = "stica", "arch.num_layer" = 2}]
        # cases for which one of the tables holds whole; a dotted path leads into a parameter
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssvideo_core.errors import DataError


@dataclass(frozen=True)
class Pending:
    """What `golden_pending.toml` leaves out: whole kinds, or kinds with values of parameters."""

    rules: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Pending:
        """The rules of the file; none when it does not exist."""
        rules = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        whole = dict.fromkeys(rules.pop("kinds", []), True)
        for kind, rule in rules.items():
            tables = rule if isinstance(rule, list) else [rule]
            if rule is not True and not all(isinstance(table, dict) for table in tables):
                raise DataError(
                    f"{path}: '{kind} = {rule!r}' is neither true nor tables of parameter values"
                )
        return cls({**rules, **whole})

    def covers(self, kind: str, params: Mapping[str, Any]) -> bool:
        """Whether the kind is listed whole, or one of its tables holds for the raw params."""
        rule = self.rules.get(kind, False)
        if isinstance(rule, bool) or rule == []:
            return rule is not False
        return any(_holds(table, params) for table in (rule if isinstance(rule, list) else [rule]))


def _holds(table: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    return all(
        _param(params, path) in (values if isinstance(values, list) else [values])
        for path, values in table.items()
    )


def _param(params: Any, path: str) -> Any:
    """The raw parameter at a dotted path, None where it is absent."""
    for part in path.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params
