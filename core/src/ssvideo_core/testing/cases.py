"""Run a package's code against stored reference values.

    golden = reference_cases("vicc")          # $SSVIDEO_GOLDEN/vicc if set, else tests/golden

    @golden.kind("sinkhorn")
    def _(case):
        codes = assign_codes(case.scores, epsilon=case.eps, iterations=case.iterations)
        return {"q": codes}

    test_reference = golden.parametrised()

One adapter per kind returns outputs by name; nothing about a single case may be in it. Every
output a case lists is compared with its tolerance. `tests/golden_pending.toml` names what a
package does not have yet (see `pending`); such cases are skipped and counted.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssvideo_core.errors import DataError
from ssvideo_core.testing.inputs import Builder
from ssvideo_core.testing.pending import Pending
from ssvideo_core.testing.tolerances import difference

GOLDEN_VARIABLE = "SSVIDEO_GOLDEN"
SCHEMA = 1
Adapter = Callable[["Case"], Mapping[str, Any]]


def _document(path: Path) -> Any:
    """A JSON document, read anew as adapters may change it, or an open .npz."""
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else _open(path)


@functools.lru_cache(maxsize=16)
def _open(path: Path) -> Any:
    """An .npz whose arrays are read when asked for; never pickles."""
    return np.load(path, allow_pickle=False)


def _member(document: Any, name: str) -> Any:
    """The member `name`; "a:b" also finds member b of a, "a:" the group of all members "a:…".

    Raises KeyError when there is none.
    """
    if name in document:
        return document[name]
    if name.endswith(":"):
        group = {key[len(name) :]: document[key] for key in document if key.startswith(name)}
        if group:
            return group
    first, separator, rest = name.partition(":")
    if separator and isinstance(document, dict) and isinstance(document.get(first), dict):
        return _member(document[first], rest) if rest else document[first]
    raise KeyError(name)


@dataclass(frozen=True, eq=False)
class Case:
    """One reference case. A parameter is an attribute with its inputs built: `case.scores`.

    folder: of the manifest. params: raw, as in the manifest. prefix, file_paths: where expected
    values are. fill_options: the manifest's `fill`. tmp_path: an empty folder for this run.
    `case["lambda"]` reads parameters whose name is no identifier or is an attribute of Case.
    """

    id: str
    kind: str
    folder: Path
    file_paths: tuple[Path, ...]
    prefix: str
    mode: str
    params: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]]
    info: Sequence[str] = ()
    fill_options: Mapping[str, Any] = field(default_factory=dict)
    tmp_path: Path = Path()

    @property
    def released(self) -> bool:
        """Whether a slip of the released code is asked for, by a compatibility option."""
        return self.mode == "released"

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("params", ()):
            raise AttributeError(f"{self.kind} case '{self.id}' has no parameter '{name}'")
        return self[name]

    def __getitem__(self, name: str) -> Any:
        return self.build(self.params[name])

    def get(self, name: str, default: Any = None) -> Any:
        """The built parameter, or `default` when it is absent or null."""
        return default if self.params.get(name) is None else self[name]

    def build(self, value: Any, **places: int) -> Any:
        """A raw value of `params` with its inputs built and {t} {s} {v} {r} of tags replaced.

        `case.build(case.params["clips"], t=3, r=0)` serves tags with and without places.
        """
        return Builder(self.read, self.entry, self.params).build(value, **places)

    def read(self, name: str) -> Any:
        """The stored value of that full name (no prefix) in the first listed file that has it.

        "NAME:" is a group of arrays without that start of their names. Raises DataError.
        """
        return self._first(lambda document: _member(document, name), name)

    def entry(self, file: str, name: str) -> Any:
        """Member `name` of the JSON file `file` of the folder."""
        return _member(_document(self.folder / file), name)

    def expected(self, output: str) -> Any:
        """The stored value of `output`: its name after the prefix, in the first file that has it.

        JSON: a prefix that names a top-level entry steps into it; `*` and `state` may mean the
        place itself. Raises DataError.
        """
        return self._first(lambda document: self._placed(document, output), self.prefix + output)

    def _placed(self, document: Any, output: str) -> Any:
        if not isinstance(document, dict):
            return _member(document, self.prefix + output)
        entry = self.prefix if self.prefix in document else self.prefix.removesuffix(":")
        if self.prefix and entry not in document:
            return _member(document, self.prefix + output)
        place = document[entry] if self.prefix else document
        if output == "*" or (output == "state" and "state" not in place):
            return place
        return _member(place, output)

    def _first(self, find: Callable[[Any], Any], name: str) -> Any:
        for path in self.file_paths:
            if path.suffix in (".npz", ".json"):
                try:
                    return find(_document(path))
                except KeyError:
                    continue
        files = ", ".join(path.name for path in self.file_paths)
        raise DataError(f"{self.folder / 'cases.json'}: case '{self.id}': no '{name}' in {files}")

    def differences(self, outputs: Mapping[str, Any]) -> list[str]:
        """One line for every listed output that is missing or outside its tolerance."""
        lines = []
        for name, tolerance in self.outputs.items():
            if name not in outputs:
                lines.append(f"{name}: missing; the adapter returned {sorted(outputs)}")
                continue
            found = difference(outputs[name], self.expected(name), tolerance, self.expected)
            if found:
                lines.append(f"{name}: {found}")
        return lines


def load_cases(folder: Path, kinds: Sequence[str] | None = None) -> list[Case]:
    """The cases of `folder/cases.json`, in order, restricted to `kinds` if given.

    With `kinds`, an absent folder has no cases. Raises DataError for an absent manifest, another
    schema, a repeated id or an absent file.
    """
    manifest = folder / "cases.json"
    if kinds is not None and not folder.exists():
        return []  # a folder of other methods' cases
    if not manifest.is_file():
        raise DataError(f"{manifest} does not exist: it is the manifest of the reference cases")
    document = json.loads(manifest.read_text(encoding="utf-8"))
    if document.get("schema") != SCHEMA:
        raise DataError(f"{manifest}: schema {document.get('schema')!r}, expected {SCHEMA}")
    cases = []
    for row in document["cases"]:
        if kinds is None or row["kind"] in kinds:
            files = [row["file"]] if isinstance(row["file"], str) else row["file"]
            case = Case(
                id=row["id"],
                kind=row["kind"],
                folder=folder,
                file_paths=tuple(folder / name for name in files),
                prefix=row["prefix"],
                mode=row["mode"],
                params=row["params"],
                outputs=row["outputs"],
                info=tuple(row.get("info", ())),
                fill_options=document.get("fill", {}),
            )
            cases.append(case)
    _check(manifest, cases)
    return cases


def _check(manifest: Path, cases: Sequence[Case]) -> None:
    ids = [case.id for case in cases]
    for name in ids:
        if ids.count(name) > 1:
            raise DataError(f"{manifest}: the id '{name}' is used {ids.count(name)} times")
    for case in cases:
        for path in case.file_paths:
            if not path.is_file():
                raise DataError(f"{manifest}: case '{case.id}' names {path.name}: no such file")
        if case.mode not in ("parity", "released"):
            raise DataError(f"{manifest}: case '{case.id}' has the unknown mode '{case.mode}'")


class ReferenceCases:
    """The cases of one folder and the adapters that run them."""

    def __init__(
        self, folder: Path, pending: Pending, kinds: Sequence[str] | None, cases: Sequence[Case]
    ) -> None:
        self.folder = folder
        self.pending = pending
        self.kinds = kinds
        self.cases = list(cases)
        self.adapters: dict[str, Adapter] = {}

    def kind(self, name: str) -> Callable[[Adapter], Adapter]:
        """Register the adapter of a kind: a function of a Case that returns outputs by name."""
        if name in self.adapters:
            raise ValueError(f"the kind '{name}' has two adapters")
        if self.kinds is not None and name not in self.kinds:
            raise ValueError(f"the kind '{name}' is not among kinds={list(self.kinds)}")

        def register(adapter: Adapter) -> Adapter:
            self.adapters[name] = adapter
            return adapter

        return register

    def parametrised(self) -> Callable[..., None]:
        """The pytest function over all cases; the ids are the cases' ids."""

        @pytest.mark.parametrize("case", self.cases, ids=[case.id for case in self.cases])
        def test_reference(case: Case, tmp_path: Path) -> None:
            self.check(case, tmp_path)

        return test_reference

    def check(self, case: Case, tmp_path: Path) -> None:
        """Run one case: passes, fails with one line per output, or skips what is pending."""
        if self.pending.covers(case.kind, case.params):
            pytest.skip(f"pending: {case.kind}")
        adapter = self.adapters.get(case.kind)
        if adapter is None:
            pytest.fail(f"the kind '{case.kind}' has no adapter", pytrace=False)
        case = replace(case, tmp_path=tmp_path)
        lines = case.differences(adapter(case))
        if lines:
            mode = " (released)" if case.released else ""
            pytest.fail("\n".join([f"{case.kind} '{case.id}'{mode}:", *lines]), pytrace=False)

    def moved(self, folder: Path) -> ReferenceCases:
        """The same adapters over the cases of another folder (`rekey.rekey` makes one)."""
        other = ReferenceCases(folder, self.pending, self.kinds, load_cases(folder, self.kinds))
        other.adapters = self.adapters
        return other


def reference_cases(method: str, kinds: Sequence[str] | None = None) -> ReferenceCases:
    """The reference cases of `method` for the calling test file.

    Folder: $SSVIDEO_GOLDEN/METHOD if that variable is set, else `golden` beside the test file, or
    `golden/METHOD` where that has no manifest. kinds: cases of other kinds are ignored.
    Raises DataError when the folder has no manifest, unless `kinds` are given and it is absent.
    """
    tests = Path(sys._getframe(1).f_globals["__file__"]).parent
    shared = os.environ.get(GOLDEN_VARIABLE)
    if shared:
        folder = Path(shared) / method
    else:
        own = tests / "golden"
        is_own = kinds is None or (own / "cases.json").is_file()
        folder = own if is_own else own / method
    pending = Pending.read(tests / "golden_pending.toml")
    return ReferenceCases(folder, pending, kinds, load_cases(folder, kinds))
