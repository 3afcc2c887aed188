from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ssvideo_core import checkpoint_files, checkpoints, files
from ssvideo_core.checkpoint_tree import flatten, restore
from ssvideo_core.checkpoints import (
    load_checkpoint,
    locate_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from ssvideo_core.errors import ConfigError, DataError


def same(a: Any, b: Any) -> bool:
    """Equal in every type, order, key, dtype, shape and byte."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        keys = zip(a, b, strict=False)
        return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in keys)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return bool(a == b)


def names(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir())


def save(root: Path, step: int, **options: Any) -> Path:
    state = {"x": np.full(3, step, np.float32)}
    return save_checkpoint(root, step, state, facts={"step": step}, **options)


TREES = {
    "torch optimiser": {
        "state": {0: {"step": np.array(3.0, np.float32), "exp_avg": np.ones((2, 3))}, 1: {}},
        "param_groups": [{"betas": (0.9, 0.999), "foreach": None, "params": [0, 1], "eps": 1e-08}],
    },
    "keys": {"1": "text", 1: "int", 1.5: "float", None: "none", "": np.ones(1), False: "bool"},
    "slashes": {"a/b": np.zeros(1), "a": {"b": np.ones(1)}, "a/b'": np.full(1, 2.0)},
    "like our own tags": {"dict": [1], "list": {"array": "a", "dtype": "<f4"}, "float": "nan"},
    "reserved names": {"__metadata__": np.arange(2), "": np.arange(3)},
    "floats": [math.nan, math.inf, -math.inf, -0.0, 0.1, 1e300, 5e-324],
    "numbers": [2**70, -1, 0, True, False, None, "é\0\n", 1.0],
    "array alone": np.arange(3),
    "empty": {"d": {}, "l": [], "t": (), "a": np.zeros((0, 3), np.int16), "c": np.zeros(0, "c8")},
    "scalars": [np.array(True), np.array(2.5, np.float16), np.array(1 + 2j)],
    "types": [
        np.array([0, 1, 127], kind)
        for kind in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c16")
    ],
    "text": np.array(["a", "bcd"]),
    "nan bits": np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_nothing_of_a_tree_is_lost(tree: Any, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 3, tree, facts={})
    assert same(load_checkpoint(folder).state, tree)


def test_types_of_other_packages(tmp_path: Path) -> None:
    others = pytest.importorskip("ml_dtypes")
    tree = {
        "bfloat16": np.arange(6).astype(others.bfloat16).reshape(2, 3).T.copy(),
        "float8": np.array(0.5, others.float8_e4m3fn),
    }
    folder = save_checkpoint(tmp_path, 3, tree, facts={})
    assert same(load_checkpoint(folder).state, tree)


def test_arrays_come_back_writable_and_in_their_order_of_memory(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    state = {"turned": array.T, "strided": array[::2, ::-1], "big": array.astype(">i8")}
    loaded = load_checkpoint(save_checkpoint(tmp_path, 0, state, facts={})).state
    for name, value in state.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == np.int64
        loaded[name][:] = 0


def test_what_becomes_plainer(tmp_path: Path) -> None:
    class Moments(NamedTuple):
        mean: np.ndarray

    state = {"o": OrderedDict(b=1, a=2), "n": Moments(np.ones(2)), "s": np.float32(2)}
    loaded = load_checkpoint(save_checkpoint(tmp_path, 0, state, facts={})).state
    expected = {"o": {"b": 1, "a": 2}, "n": (np.ones(2),), "s": np.array(2, np.float32)}
    assert same(loaded, expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"'model/0' of the state .* builtins\.set; convert"),
        (b"bytes", "builtins.bytes"),
        ({("a",): 1}, "builtins.tuple"),
        (np.array([None]), "'model/0' .* array of object"),
        (np.zeros(2, "i4,f4"), "'model/0' .* array of .*f4"),
        (Path("."), "pathlib"),
    ],
)
def test_other_values_are_refused_with_their_path(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path, 1, {"model": [value]}, facts={})
    assert names(tmp_path) == []


def test_names_of_arrays_are_their_paths() -> None:
    arrays, structure = flatten({"net": {"fc.weight": np.ones(1)}, "queues": [np.ones(1)] * 2})
    assert list(arrays) == ["net/fc.weight", "queues/0", "queues/1"]
    assert json.loads(json.dumps(structure)) == structure


@pytest.mark.parametrize(
    "structure",
    [
        {"array": "absent"},
        {"what": 1},
        {"dict": [[{"list": []}, 1]]},
        {"dict": [1]},
        {"array": "a", "dtype": "O", "shape": [1]},
        {"array": "a", "dtype": "no such type", "shape": [1]},
        {"array": "a", "dtype": "<f8", "shape": [2]},
        {"float": "x"},
    ],
)
def test_a_structure_that_does_not_fit(structure: Any) -> None:
    with pytest.raises(DataError, match="do not fit"):
        restore(structure, {"a": np.zeros(8, np.uint8)})


def test_what_lies_in_the_folder(tmp_path: Path) -> None:
    facts = {"method": "vicc", "epoch": 3}
    folder = save_checkpoint(tmp_path / "run", 12, {"x": np.ones(2)}, facts=facts)
    assert folder == tmp_path / "run" / "ckpt-00000012"
    assert names(folder) == ["manifest.json", "state.json", "state.safetensors"]
    manifest = json.loads((folder / "manifest.json").read_text())
    described = {key: manifest[key] for key in ("step", "world_size", "facts")}
    assert described == {"step": 12, "world_size": 1, "facts": facts}
    saved = load_checkpoint(folder)
    assert (saved.folder, saved.step, saved.local, saved.world_size) == (folder, 12, None, 1)
    assert saved.facts == facts


def test_older_ones_go_and_chosen_ones_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10, 100_000_000):
        save(tmp_path, step, keep_forever=step == 2)
    assert names(tmp_path) == ["ckpt-00000002", "ckpt-00000010", "ckpt-100000000"]
    assert newest_checkpoint(tmp_path) == tmp_path / "ckpt-100000000"
    (tmp_path / "ckpt-00000010" / "keep-forever").touch()
    save(tmp_path, 100_000_001, keep=1)
    assert names(tmp_path) == ["ckpt-00000002", "ckpt-00000010", "ckpt-100000001"]


def test_going_on_from_an_earlier_step_leaves_later_ones(tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path, step)
    save(tmp_path, 6, keep=1)
    assert names(tmp_path) == ["ckpt-00000006", "ckpt-00000010"]


@pytest.mark.parametrize("options", [{"step": 1, "keep": 0}, {"step": -1}])
def test_keeping_none_is_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least 0 and 1"):
        save(tmp_path, **options)


def test_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"x": 1}, facts={})
    folder = save_checkpoint(tmp_path, 1, {"x": 2}, facts={})
    assert load_checkpoint(folder).state == {"x": 2}
    assert names(tmp_path) == ["ckpt-00000001"]


def test_no_manifest_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    save(tmp_path, 1)
    folder = save(tmp_path, 2)
    (folder / "manifest.json").unlink()
    assert newest_checkpoint(tmp_path) == tmp_path / "ckpt-00000001"
    assert "ckpt-00000002: incomplete, it has no manifest.json" in caplog.messages[0]
    assert caplog.messages[1] == f"newest complete checkpoint: {tmp_path / 'ckpt-00000001'}"
    with pytest.raises(DataError, match="ckpt-00000002: incomplete"):
        load_checkpoint(folder)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "rank-00000.safetensors"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_taken(
    name: str, damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        folder = save(tmp_path, step, local={"queue": np.arange(4)})
    damage(folder / name)
    with pytest.raises(DataError, match=f"ckpt-00000002/{name}: damaged"):
        load_checkpoint(folder)
    assert newest_checkpoint(tmp_path) == tmp_path / "ckpt-00000001"
    assert f"ckpt-00000002/{name}: damaged" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 1}', '{"version": 1, "files": {"a": 1}}', "\xff", "[" * 100_000],
)
def test_a_damaged_manifest(text: str, tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    (folder / "manifest.json").write_text(text, encoding="latin1")
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        load_checkpoint(folder)
    with pytest.raises(DataError, match="ckpt-00000001: none is complete and undamaged"):
        locate_checkpoint(tmp_path)


def test_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, 1)
    monkeypatch.setattr(checkpoint_files, "VERSION", 2)
    with pytest.raises(DataError, match="has version 1, this ssvideo reads version 2"):
        load_checkpoint(folder)


def test_a_file_outside_the_folder_is_not_looked_at(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    (tmp_path / "outside").write_bytes(b"12345")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../outside"] = {"bytes": 5, "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="ckpt-00000001/outside: damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "text",
    [
        '{"step": 1, "tree": 1}',
        "[" * 100_000,
        '{"step": 1, "facts": {}, "world_size": 1, "has_local": false, "tree": {"array": "y"}}',
    ],
)
def test_a_manifest_that_fits_other_contents(text: str, tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    (folder / "state.json").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(text.encode()).hexdigest()
    manifest["files"]["state.json"] = {"bytes": len(text), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"state\.json: cannot be read back"):
        load_checkpoint(folder)


def test_locate(tmp_path: Path) -> None:
    run = tmp_path / "run"
    save(run / "checkpoints", 1)
    newest = save(run / "checkpoints", 2)
    assert locate_checkpoint(run) == newest
    assert locate_checkpoint(run / "checkpoints") == newest
    assert locate_checkpoint(newest) == newest
    shutil.copytree(newest, tmp_path / "best")
    assert locate_checkpoint(tmp_path / "best") == tmp_path / "best"
    for path in (tmp_path, tmp_path / "absent", newest / "state.json"):
        with pytest.raises(DataError, match="no checkpoint; expected a folder ckpt-STEP"):
            locate_checkpoint(path)
    assert newest_checkpoint(tmp_path / "absent") is None


def test_left_over_drafts_go(tmp_path: Path) -> None:
    for name in (".ckpt-00000001.tmp", ".ckpt-00000007.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rank-00003.json").write_text("stale")
    assert newest_checkpoint(tmp_path) is None
    folder = save(tmp_path, 7)
    assert names(tmp_path) == ["ckpt-00000007"]
    assert "rank-00003.json" not in names(folder)


class Killed(BaseException):
    pass


def test_a_kill_at_any_moment_leaves_a_complete_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename, removal and write is once the last thing that happens."""
    allowed = [0]

    def counted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            allowed[0] -= 1
            if allowed[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    def no_cleaning(folder: Path, ignore_errors: bool = False) -> None:
        if allowed[0] >= 0:
            remove(folder, ignore_errors=ignore_errors)

    remove = shutil.rmtree
    for module, name in ((os, "fsync"), (os, "replace"), (Path, "rename"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    monkeypatch.setattr(checkpoints.shutil, "rmtree", counted(no_cleaning))
    before, after = {"x": [1, np.arange(5)]}, {"x": [2, np.arange(6)]}
    root, found, moment = tmp_path / "run", [], 0
    while not found or found[-1] is not None:
        allowed[0] = 10**6
        remove(root, ignore_errors=True)
        save_checkpoint(root, 7, before, facts={})
        allowed[0] = moment
        killed = False
        try:
            save_checkpoint(root, 7, after, facts={})
        except Killed:
            killed = True
        allowed[0] = 10**6
        newest = newest_checkpoint(root)
        assert newest is not None
        state = load_checkpoint(newest).state
        assert same(state, before) or same(state, after)
        found.append(state["x"][0] if killed else None)
        save_checkpoint(root, 8, after, facts={}, keep=1)
        assert names(root) == ["ckpt-00000008"]
        moment += 1
    assert {1, 2} <= set(found), "killed before and after the change"
    assert len(found) > 10


PROGRAM = """
import sys, numpy as np
from pathlib import Path
from ssvideo_core.checkpoints import save_checkpoint
for step in range(10**6):
    state = {"x": np.full(1000, step), "step": step}
    save_checkpoint(Path(sys.argv[1]), step, state, facts={}, keep=1)
    print(step, flush=True)
"""


def test_a_real_kill_while_saving(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last == 30:
                process.send_signal(signal.SIGKILL)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    saved = load_checkpoint(newest)
    assert saved.step >= last
    assert same(saved.state, {"x": np.full(1000, saved.step), "step": saved.step})


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    left = [2]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(DataError, match=r"ckpt-00000002 cannot be written \(No space left"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["ckpt-00000001"]
    assert newest_checkpoint(tmp_path) == tmp_path / "ckpt-00000001"


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(DataError, match="ckpt-00000002 cannot be written"):
        save(tmp_path / "run", 2)


def on_ranks(world_size: int, save_on: Any) -> list[Path]:
    """save_on(rank, barrier) on threads that act as ranks."""
    barrier = threading.Barrier(world_size, timeout=30)

    def act(rank: int) -> Path:
        try:
            return save_on(rank, barrier.wait)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(world_size) as pool:
        done = [pool.submit(act, rank) for rank in range(world_size)]
    errors = [error for future in done if (error := future.exception())]
    for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return [future.result() for future in done]


def test_each_rank_gets_its_own_back(tmp_path: Path) -> None:
    stale = tmp_path / ".ckpt-00000004.tmp"
    stale.mkdir()
    (stale / "rank-00009.json").write_text("of a run with more ranks")

    def save_on(rank: int, barrier: Any) -> Path:
        return save_checkpoint(
            tmp_path,
            4,
            {"net": np.full(2, rank)},
            facts={},
            local={"queue": np.full(3, rank)},
            rank=rank,
            world_size=3,
            barrier=barrier,
        )

    folders = on_ranks(3, save_on)
    assert set(folders) == {tmp_path / "ckpt-00000004"}
    assert [name for name in names(folders[0]) if "json" in name] == [
        "manifest.json", "rank-00000.json", "rank-00001.json", "rank-00002.json", "state.json"
    ]  # fmt: skip
    for rank in range(3):
        saved = load_checkpoint(folders[0], rank=rank, world_size=3)
        assert same(saved.state, {"net": np.full(2, 0)})
        assert same(saved.local, {"queue": np.full(3, rank)})
    assert load_checkpoint(folders[0]).world_size == 3
    for rank in (0, 3):
        with pytest.raises(DataError, match=f"saved by 3 ranks.* rank {rank} of 4 .*Start 3"):
            load_checkpoint(folders[0], rank=rank, world_size=4)
    assert newest_checkpoint(tmp_path) == folders[0]


def test_ranks_without_local_state_may_change_in_number(tmp_path: Path) -> None:
    def save_on(rank: int, barrier: Any) -> Path:
        return save(tmp_path, 4, rank=rank, world_size=2, barrier=barrier)

    folder = on_ranks(2, save_on)[0]
    assert names(folder) == ["manifest.json", "state.json", "state.safetensors"]
    assert load_checkpoint(folder, rank=4, world_size=5).local is None


def test_ranks_that_see_other_disks_are_found_out(tmp_path: Path) -> None:
    def save_on(rank: int, barrier: Any) -> Path:
        root = tmp_path / f"disk-{rank}"
        return save(root, 4, rank=rank, world_size=2, barrier=barrier, local={"rank": rank})

    with pytest.raises(DataError, match=r"no state of ranks \[1\] of 2; .* all ranks see"):
        on_ranks(2, save_on)
    assert newest_checkpoint(tmp_path / "disk-0") is None
