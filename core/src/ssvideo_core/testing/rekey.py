"""Write a folder of reference cases again under other names.

A test that passes on the result depends on the documented meaning of a manifest alone: ids,
files, prefixes and the names of stored inputs are new, the order is another one, kinds may be
left out.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssvideo_core.testing.cases import SCHEMA, Case, ReferenceCases, load_cases


def rekey(folder: Path, out: Path, *, drop: Collection[str] = (), seed: int = 0) -> Path:
    """Write the cases of `folder` into the new folder `out`; returns `out`.

    drop: kinds that are left out. seed: of the new order. Every case gets files of its own: one
    .npz with its expected values and stored inputs, and copies of its other files, where the JSON
    entry that the prefix named is renamed. Only what the manifest names is carried over.
    """
    cases = [case for case in load_cases(folder) if case.kind not in drop]
    out.mkdir(parents=True)
    order = np.random.default_rng(seed).permutation(len(cases)).tolist()
    rows = [_CaseMove(cases[old], new, out).row() for new, old in enumerate(order)]
    fill_options = dict(cases[0].fill_options) if cases else {}
    manifest = {"schema": SCHEMA, "method": folder.name, "fill": fill_options, "cases": rows}
    (out / "cases.json").write_text(json.dumps(manifest), encoding="utf-8")
    return out


def check_renamed(
    golden: ReferenceCases,
    tmp_path: Path,
    *,
    drop: Collection[str] = (),
    each: int | None = None,
) -> None:
    """Run a test file's cases again as `rekey` writes them, but for pending ones.

    drop: kinds that are left out. each: only so many of a kind are run, where cases are slow; all
    of a kind go through one adapter. Fails as `ReferenceCases.check` does.
    """
    kinds = {case.kind for case in golden.cases}
    others = {case.kind for case in load_cases(golden.folder)} - kinds
    moved = golden.moved(rekey(golden.folder, tmp_path / "renamed", drop={*others, *drop}))
    run: Counter[str] = Counter()
    for number, case in enumerate(moved.cases):
        if not golden.pending.covers(case.kind, case.params) and run[case.kind] != each:
            run[case.kind] += 1
            work = tmp_path / str(number)
            work.mkdir()
            moved.check(case, work)


class _CaseMove:
    """One case on its way: collects the arrays of its .npz, renames its files and params."""

    def __init__(self, case: Case, number: int, out: Path) -> None:
        self.case, self.number, self.out = case, number, out
        self.arrays: dict[str, Any] = {}
        self.has_npz = any(path.suffix == ".npz" for path in case.file_paths)
        self.prefix = f"renamed{number}/" if self.has_npz or case.prefix else ""

    def row(self) -> dict[str, Any]:
        """Write the files; returns the case's row of the new manifest."""
        files = [self._file(path) for path in self.case.file_paths if path.suffix != ".npz"]
        params = self._params(self.case.params)
        if self.has_npz:
            for name in self._expected_names():
                self.arrays[self.prefix + name] = self.case.expected(name)
            files.insert(0, f"values{self.number}.npz")
            np.savez(self.out / files[0], **self.arrays)
        return {
            "id": f"case {self.number}",
            "kind": self.case.kind,
            "file": files,
            "prefix": self.prefix,
            "mode": self.case.mode,
            "params": params,
            "outputs": self.case.outputs,
        }

    def _expected_names(self) -> set[str]:
        tolerances = self.case.outputs.values()
        helpers = {t["atol_times_array"] for t in tolerances if "atol_times_array" in t}
        if any(t.get("order") == "multiset_per_term" for t in tolerances):
            helpers.add("terms")
        return helpers | self.case.outputs.keys()

    def _file(self, path: Path) -> str:
        name = f"file{self.number}-{path.name[::-1].replace('.', '_')}{path.suffix}"
        if path.suffix != ".json":
            shutil.copyfile(path, self.out / name)
            return name
        document = json.loads(path.read_text(encoding="utf-8"))
        for entry in {self.case.prefix, self.case.prefix.removesuffix(":")} - {""}:
            if entry in document:
                document[self.prefix] = document.pop(entry)
        (self.out / name).write_text(json.dumps(document), encoding="utf-8")
        return name

    def _params(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.keys() == {"array"} and self.has_npz:
                return {"array": self._array(value["array"])}
            if value.keys() == {"file", "entry"}:
                return {**value, "file": self._file(self.case.folder / value["file"])}
            return {key: self._params(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._params(item) for item in value]
        beside = {path.name: path for path in self.case.file_paths}
        return self._file(beside[value]) if isinstance(value, str) and value in beside else value

    def _array(self, name: str) -> str:
        new = f"stored{len(self.arrays)}{':' if name.endswith(':') else ''}"
        stored = self.case.read(name)
        group = stored if isinstance(stored, dict) else {"": stored}
        self.arrays.update({new + key: array for key, array in group.items()})
        return new
