from __future__ import annotations

import jax
import numpy as np
import pytest
from brave.distributed import AXIS, Place, find_place, start
from ssvideo_core.errors import ConfigError, DataError


def test_flags_say_where_processes_meet() -> None:
    flags = {"coordinator": "host:1", "num_processes": 4, "process_id": 3}
    assert find_place({}, **flags) == Place("host:1", 4, 3)
    assert find_place({}, **{**flags, "num_processes": 1, "process_id": 0}) is None
    assert find_place({"SLURM_STEP_NUM_TASKS": "8"}, **flags) == Place("host:1", 4, 3)


def test_tasks_of_srun_meet_by_themselves_and_what_it_did_not_start_is_alone() -> None:
    assert find_place({"SLURM_STEP_NUM_TASKS": "8"}) == Place()
    assert find_place({"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert find_place({"SLURM_NTASKS": "8"}) is None
    assert find_place({}) is None


@pytest.mark.parametrize(
    "flags",
    [
        {"coordinator": "host:1"},
        {"num_processes": 2, "process_id": 0},
        {"coordinator": "host:1", "num_processes": 2},
        {"coordinator": "host:1", "num_processes": 2, "process_id": 2},
        {"coordinator": "host:1", "num_processes": 2, "process_id": -1},
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="process-id"):
        find_place({}, **flags)  # type: ignore[arg-type]


def test_a_lone_process() -> None:
    with start(None, "cpu") as processes:
        assert (processes.rank, processes.world_size, processes.is_main) == (0, 1, True)
        assert processes.local_devices == jax.devices("cpu")
        assert processes.mesh.axis_names == (AXIS,)
        assert processes.any_of(True, False) == (True, False)
        assert processes.together(lambda: 5) == 5
        with pytest.raises(DataError, match="bad"):
            processes.together(_fail)
        processes.barrier()


def _fail() -> None:
    raise DataError("bad")


def test_arrays_on_devices() -> None:
    with start(None, "cpu:0") as processes:
        tree = processes.replicate({"a": np.arange(3.0, dtype=np.float32)})
        assert tree["a"].sharding == processes.replicated
        np.testing.assert_array_equal(tree["a"], [0, 1, 2])
        joined = processes.join([tree["a"]])
        assert joined.sharding == processes.spread
        np.testing.assert_array_equal(joined, [0, 1, 2])


@pytest.mark.parametrize("device", ["abacus", "cpu:99", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=device), start(None, device):
        pass
