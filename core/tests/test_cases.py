from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import DataError
from ssvideo_core.testing.cases import Case, ReferenceCases, load_cases, reference_cases
from ssvideo_core.testing.fill import inputs
from ssvideo_core.testing.inputs import Template
from ssvideo_core.testing.pending import Pending
from ssvideo_core.testing.rekey import check_renamed, rekey

CORE_GOLDEN = Path(__file__).parent / "golden"

X = np.arange(6.0).reshape(2, 3)


def write_folder(folder: Path) -> Path:
    """A small folder with every way in which values are stored."""
    folder.mkdir()
    np.savez(
        folder / "ops.npz",
        **{"x": X, "a/y": X + 1, "b/y": X * 2, "a/z": X.sum(), "grad:w": X[0], "grad:b": X[1]},
    )
    document = {
        "net one": {"w": [2, 3], "b": [2]},
        "case:": 0,
        "counts": [1, 2],
        "whole": {"deep": {"er": 5}},
    }
    (folder / "keys.json").write_text(json.dumps(document))
    (folder / "raw.bin").write_bytes(b"abc")
    (folder / "all.json").write_text(json.dumps({"w": [1]}))
    plain = {"exact": True}
    tag = {"tag": "in{t}", "shape": [2], "map": "normal"}
    cases = [
        ("shift one", "shift", "ops.npz", "a/", {"x": {"array": "x"}, "by": 1}, ["y", "z"]),
        ("double", "scale", "ops.npz", "b/", {"x": {"array": "x"}, "lambda": 2}, ["y"]),
        ("group", "group", "ops.npz", "grad:", {"grads": {"array": "grad:"}}, ["w", "b"]),
        ("entry", "layout", "keys.json", "net one", {"name": "n"}, ["state"]),
        ("whole", "layout", "all.json", "", {"name": "all"}, ["*"]),
        ("counts", "document", "keys.json", "", {}, ["counts", "whole:deep:er"]),
        ("bytes", "bytes", ["raw.bin", "keys.json"], "whole:", {"file": "raw.bin"}, ["deep"]),
        ("tags", "tags", "ops.npz", "", {"clips": tag, "none": None}, ["x"]),
        (
            "state",
            "named_state",
            "ops.npz",
            "",
            {"state": {"file": "keys.json", "entry": "net one"}},
            ["x"],
        ),
    ]
    keys = ("id", "kind", "file", "prefix", "params")
    rows = [
        {
            **dict(zip(keys, case[:5], strict=True)),
            "mode": "released" if case[0] == "double" else "parity",
            "outputs": dict.fromkeys(case[5], plain),
            "info": ["never compared"],
        }
        for case in cases
    ]
    manifest = {"schema": 1, "method": "m", "fill": {"layout": "haiku"}, "cases": rows}
    (folder / "cases.json").write_text(json.dumps(manifest))
    return folder


def adapters(golden: ReferenceCases) -> ReferenceCases:
    """One adapter per kind of `write_folder`; none knows a case."""

    @golden.kind("shift")
    def _(case: Case) -> dict[str, Any]:
        return {"y": case.x + case.by, "z": case.x.sum(), "unlisted": None}

    @golden.kind("scale")
    def _(case: Case) -> dict[str, Any]:
        assert case.released
        return {"y": case.x * case["lambda"]}

    @golden.kind("group")
    def _(case: Case) -> dict[str, Any]:
        return dict(case.grads)

    @golden.kind("layout")
    def _(case: Case) -> dict[str, Any]:
        document = {"w": [2, 3], "b": [2]} if case.name == "n" else {"w": [1]}
        return {"state": document, "*": document}

    @golden.kind("document")
    def _(case: Case) -> dict[str, Any]:
        return {"counts": (1, 2), "whole:deep:er": 5}

    @golden.kind("bytes")
    def _(case: Case) -> dict[str, Any]:
        assert (case.folder / case.file).read_bytes() == b"abc"
        (case.tmp_path / "scratch").write_text("")
        return {"deep": {"er": 5}}

    @golden.kind("tags")
    def _(case: Case) -> dict[str, Any]:
        assert isinstance(case.clips, Template)
        np.testing.assert_array_equal(case.clips(t=3), inputs("in3", (2,)))
        np.testing.assert_array_equal(case.build(case.params["clips"], t=1), inputs("in1", (2,)))
        assert case.get("none", 7) == case.get("absent", 7) == 7
        assert case.fill_options == {"layout": "haiku"}
        return {"x": X}

    @golden.kind("named_state")
    def _(case: Case) -> dict[str, Any]:
        assert case.state == {"w": [2, 3], "b": [2]}
        return {"x": X}

    return golden


def load(folder: Path, rules: dict[str, Any] | None = None, **options: Any) -> ReferenceCases:
    cases = load_cases(folder, options.get("kinds"))
    return ReferenceCases(folder, Pending(rules or {}), options.get("kinds"), cases)


def run_all(golden: ReferenceCases, tmp_path: Path) -> dict[str, str]:
    """Outcome per case id: passed, skipped, or the failure's text."""
    outcomes = {}
    for number, case in enumerate(golden.cases):
        scratch = tmp_path / f"scratch{number}"
        scratch.mkdir()
        try:
            golden.check(case, scratch)
            outcomes[case.id] = "passed"
        except pytest.skip.Exception as skipped:
            outcomes[case.id] = str(skipped)
        except pytest.fail.Exception as failed:
            outcomes[case.id] = str(failed)
    return outcomes


def test_every_way_of_storing_values_is_read(tmp_path: Path) -> None:
    golden = adapters(load(write_folder(tmp_path / "m")))
    assert set(run_all(golden, tmp_path).values()) == {"passed"}


def test_a_rekeyed_folder_passes_with_the_same_adapters(tmp_path: Path) -> None:
    golden = adapters(load(write_folder(tmp_path / "m")))
    moved = golden.moved(rekey(golden.folder, tmp_path / "moved", drop=["group"]))
    old = {case.id for case in golden.cases}
    assert len(moved.cases) == len(old) - 1
    assert not old & {case.id for case in moved.cases}
    assert not {p.name for p in golden.folder.iterdir()} & {
        p.name for p in moved.folder.iterdir() if p.name != "cases.json"
    }
    assert [c.kind for c in moved.cases] != [c.kind for c in golden.cases if c.kind != "group"]
    assert set(run_all(moved, tmp_path).values()) == {"passed"}


@pytest.mark.parametrize("each", [None, 1])
def test_renamed_cases_of_every_kind_are_run(each: int | None, tmp_path: Path) -> None:
    golden, run = adapters(load(write_folder(tmp_path / "m"))), []

    def counted(case: Case) -> dict[str, Any]:
        run.append(case.kind)
        return {"state": {"w": [2, 3], "b": [2]}, "*": {"w": [1]}}

    golden.adapters["layout"] = counted
    check_renamed(golden, tmp_path, each=each)
    assert len(run) == (each or 2)


def test_an_adapter_that_knows_a_case_is_caught(tmp_path: Path) -> None:
    golden = adapters(load(write_folder(tmp_path / "m")))
    shift = golden.adapters["shift"]
    golden.adapters["shift"] = lambda case: shift(case) if case.id == "shift one" else {}
    golden.check(golden.cases[0], tmp_path)
    with pytest.raises(pytest.fail.Exception):
        check_renamed(golden, tmp_path, each=1)


@pytest.mark.parametrize("method", sorted(p.parent.name for p in CORE_GOLDEN.glob("*/cases.json")))
def test_stored_cases_build_and_agree_with_themselves(method: str, tmp_path: Path) -> None:
    for folder in (CORE_GOLDEN / method, rekey(CORE_GOLDEN / method, tmp_path / method)):
        cases = load_cases(folder)
        assert cases
        for case in cases:
            assert all(
                case[name] is not None or value is None for name, value in case.params.items()
            )
            assert case.differences({name: case.expected(name) for name in case.outputs}) == []


def test_wrong_and_missing_outputs_fail_by_name(tmp_path: Path) -> None:
    golden = load(write_folder(tmp_path / "m"))

    @golden.kind("shift")
    def _(case: Case) -> dict[str, Any]:
        return {"y": case.x}

    outcome = run_all(golden, tmp_path)["shift one"]
    assert outcome.splitlines()[0] == "shift 'shift one':"
    assert "y: 6 of 6 elements differ; at [0, 0]: np.float64(0.0) instead of" in outcome
    assert "z: missing; the adapter returned ['y']" in outcome


def test_a_kind_without_an_adapter_fails(tmp_path: Path) -> None:
    outcomes = run_all(load(write_folder(tmp_path / "m")), tmp_path)
    assert outcomes["double"] == "the kind 'scale' has no adapter"


PENDING = """
kinds = ["shift"]
group = true
bytes = []
layout = {name = ["n", "other"]}
scale = {lambda = 3}
"tags" = {"clips.map" = "normal", "none" = "x"}
document = [{a = 1}, {b = [2, 3]}]

[[named_state]]
"state.entry" = "other"

[[named_state]]
"state.file" = ["keys.json"]
"""


def test_pending_rules_skip_kinds_and_values_but_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "golden_pending.toml"
    file.write_text(PENDING)
    golden = adapters(load(write_folder(tmp_path / "m")))
    golden.pending = Pending.read(file)
    skipped = {id for id, text in run_all(golden, tmp_path).items() if text.startswith("pending: ")}
    assert skipped == {"shift one", "group", "bytes", "entry", "state"}


def test_a_pending_rule_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "golden_pending.toml"
    for rule in ('"shift one"', "false", '["shift one"]', "[{a = 1}, 2]"):
        file.write_text(f"shift = {rule}")
        with pytest.raises(DataError, match=r"'shift = .*' is neither true nor tables of"):
            Pending.read(file)


def test_kinds_restrict_and_absent_ones_are_allowed(tmp_path: Path) -> None:
    golden = load(write_folder(tmp_path / "m"), kinds=["scale", "absent"])
    assert [case.id for case in golden.cases] == ["double"]
    with pytest.raises(ValueError, match="'shift' is not among kinds"):
        golden.kind("shift")


def test_two_adapters_of_a_kind_are_refused(tmp_path: Path) -> None:
    golden = adapters(load(write_folder(tmp_path / "m")))
    with pytest.raises(ValueError, match="'shift' has two adapters"):
        golden.kind("shift")


def test_an_unknown_parameter_is_an_attribute_error(tmp_path: Path) -> None:
    case = load_cases(write_folder(tmp_path / "m"))[0]
    with pytest.raises(AttributeError, match="shift case 'shift one' has no parameter 'speed'"):
        _ = case.speed
    with pytest.raises(DataError, match=r"case 'shift one': no 'nothing' in ops\.npz"):
        case.read("nothing")


Edit = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(schema=2), "schema 2, expected 1"),
        (lambda d: d["cases"].append(d["cases"][0]), "the id 'shift one' is used 2 times"),
        (lambda d: d["cases"][0].update(file="gone.npz"), "names gone.npz: no such file"),
        (lambda d: d["cases"][0].update(mode="fixed"), "unknown mode 'fixed'"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    manifest = write_folder(tmp_path / "m") / "cases.json"
    document = json.loads(manifest.read_text())
    edit(document)
    manifest.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        load_cases(manifest.parent)


def test_the_folder_of_the_test_file_or_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSVIDEO_GOLDEN", raising=False)
    assert reference_cases("sce", kinds=["retrieval"]).folder == CORE_GOLDEN / "sce"
    with pytest.raises(DataError, match=r"golden.cases\.json does not exist"):
        reference_cases("sce")
    write_folder(tmp_path / "m")
    monkeypatch.setenv("SSVIDEO_GOLDEN", str(tmp_path))
    assert len(reference_cases("m").cases) == 9
    assert [c.id for c in reference_cases("m", kinds=["scale"]).cases] == ["double"]


PACKAGE_TEST = """
from ssvideo_core.testing.cases import reference_cases

golden = reference_cases("m")

@golden.kind("shift")
def _(case):
    return {"y": case.x + case.by, "z": case.x.sum()}

@golden.kind("scale")
def _(case):
    return {"y": case.x}

test_reference = golden.parametrised()
"""


def test_under_pytest_the_ids_are_those_of_the_cases(tmp_path: Path) -> None:
    """A package's test folder: passes, fails, lacks an adapter, skips; each with its id."""
    write_folder(tmp_path / "golden")
    (tmp_path / "test_golden.py").write_text(PACKAGE_TEST)
    (tmp_path / "golden_pending.toml").write_text('kinds = ["layout", "bytes", "group"]\n')
    environment = {k: v for k, v in os.environ.items() if k != "SSVIDEO_GOLDEN"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rN", "--tb=line"]
    run = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 1
    for line in (
        "test_golden.py::test_reference[shift one] PASSED",
        "test_golden.py::test_reference[double] FAILED",
        "test_golden.py::test_reference[tags] FAILED",
        "test_golden.py::test_reference[group] SKIPPED (pending: group)",
    ):
        assert line in run.stdout
    assert "4 failed, 1 passed, 4 skipped" in run.stdout


def test_another_folder_may_lack_a_method(tmp_path: Path) -> None:
    assert load_cases(tmp_path / "brave", ["linear_svm"]) == []
    with pytest.raises(DataError, match=r"cases\.json does not exist"):
        load_cases(tmp_path / "brave")
