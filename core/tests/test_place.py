from __future__ import annotations

from typing import Any

import pytest
from ssvideo_core.errors import ConfigError
from ssvideo_torch.place import Place, find_place, first_host

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
LAUNCH = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}
# A task of srun: 2 machines with 4 tasks each, in a job that could have 16.
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "16",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_JOB_NODELIST": "gpu[003-005,9],login1",
    "SLURM_STEP_NODELIST": "gpu[004-005]",
}
OLD_SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_JOB_NODELIST": "gpu[004-005]",
}
# What a shell of salloc has, and what the script of sbatch has: nobody starts 16 tasks there.
ALLOCATION = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "16", "SLURM_JOB_NODELIST": "gpu[003-004]"}
BATCH_SCRIPT = {**ALLOCATION, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "ENVIRONMENT": "BATCH"}
INTERACTIVE_STEP = {**BATCH_SCRIPT, "ENVIRONMENT": "", "SLURM_STEP_ID": "4294967290"}
TCP, FILE = "tcp://10.0.0.9:1234", "file:///shared/meeting"
PORT = 10_000 + (31 * 4711 + 2) % 20_000


def without(variables: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


@pytest.mark.parametrize(
    ("environ", "flags", "expected"),
    [
        ({}, {}, Place()),
        ({}, {"local_rank": 0}, Place()),
        ({}, {"rank": -1, "world_size": -1}, Place()),
        ({"MASTER_PORT": "1"}, {}, Place()),
        (TORCHRUN, {}, Place(5, 8, 1, "env://", "torchrun")),
        (LAUNCH, {"local_rank": 1}, Place(5, 8, 1, "env://", "torchrun")),
        (TORCHRUN, {"local_rank": 1}, Place(5, 8, 1, "env://", "torchrun")),
        (LAUNCH, {}, Place(5, 8, None, "env://", "torchrun")),
        (TORCHRUN, {"dist_url": TCP}, Place(5, 8, 1, TCP, "torchrun")),
        (TORCHRUN, {"rank": 5, "world_size": 8}, Place(5, 8, 1, "env://", "torchrun")),
        ({**TORCHRUN, **SRUN, "SLURM_PROCID": "0"}, {}, Place(5, 8, 1, "env://", "torchrun")),
        (
            {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
            {},
            Place(0, 1, 0, None, "torchrun"),
        ),
        ({}, {"rank": 1, "world_size": 2, "dist_url": TCP}, Place(1, 2, None, TCP, "flags")),
        ({}, {"rank": 1, "world_size": 2, "dist_url": FILE}, Place(1, 2, None, FILE, "flags")),
        ({}, {"rank": 0, "world_size": 1, "dist_url": FILE}, Place(0, 1, 0, None, "flags")),
        (
            {"MASTER_ADDR": "a", "MASTER_PORT": "1"},
            {"rank": 1, "world_size": 2, "local_rank": 0},
            Place(1, 2, 0, "env://", "flags"),
        ),
        (SRUN, {}, Place(5, 8, 1, f"tcp://gpu004:{PORT}", "srun")),
        (OLD_SRUN, {}, Place(5, 8, 1, f"tcp://gpu004:{PORT - 2}", "srun")),
        ({**SRUN, "MASTER_PORT": "999"}, {}, Place(5, 8, 1, "tcp://gpu004:999", "srun")),
        ({**SRUN, "MASTER_ADDR": "10.1.1.1"}, {}, Place(5, 8, 1, f"tcp://10.1.1.1:{PORT}", "srun")),
        ({**SRUN, "ENVIRONMENT": "BATCH"}, {}, Place(5, 8, 1, f"tcp://gpu004:{PORT}", "srun")),
        (SRUN, {"dist_url": FILE}, Place(5, 8, 1, FILE, "srun")),
        (SRUN, {"rank": 1, "world_size": 2, "dist_url": TCP}, Place(1, 2, None, TCP, "flags")),
        (
            {**SRUN, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "1"},
            {},
            Place(0, 1, 0, None, "srun"),
        ),
        (ALLOCATION, {}, Place()),
        (BATCH_SCRIPT, {}, Place()),
        (INTERACTIVE_STEP, {}, Place()),
    ],
)
def test_the_place_of_a_process(
    environ: dict[str, str], flags: dict[str, Any], expected: Place
) -> None:
    assert find_place(environ, **flags) == expected


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        ({"RANK": "0"}, {}, "RANK and WORLD_SIZE only one is there"),
        ({"WORLD_SIZE": "2"}, {}, "RANK and WORLD_SIZE only one is there"),
        ({}, {"rank": 0}, "flags rank and world_size only one is there"),
        ({}, {"world_size": 4}, "flags rank and world_size only one is there"),
        (without(SRUN, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), {}, "only one is there"),
        ({"LOCAL_RANK": "1"}, {}, "the local rank is 1, but this is rank 0 of 1"),
        ({}, {"local_rank": 3}, "the local rank is 3, but this is rank 0 of 1"),
        ({**TORCHRUN, "RANK": "0"}, {}, "the local rank is 1, but this is rank 0 of 8"),
        ({**TORCHRUN, "RANK": "8"}, {}, "say 8 and 8, expected a rank below"),
        ({}, {"rank": 2, "world_size": 2}, "say 2 and 2, expected a rank below"),
        ({**SRUN, "SLURM_PROCID": "9"}, {}, "SLURM_STEP_NUM_TASKS say 9 and 8"),
        ({**TORCHRUN, "RANK": "one"}, {}, "RANK is 'one', expected a whole number"),
        ({**TORCHRUN, "WORLD_SIZE": "-1"}, {}, "WORLD_SIZE is '-1', expected a whole number"),
        (TORCHRUN, {"local_rank": 0}, "--local_rank is 0, the launcher's variable says 1"),
        (TORCHRUN, {"rank": 1, "world_size": 8}, "rank 1 of 8, .* say 5 of 8"),
        (without(TORCHRUN, "MASTER_ADDR"), {}, "env://, but MASTER_ADDR are not set"),
        ({}, {"rank": 0, "world_size": 2}, "MASTER_ADDR and MASTER_PORT are not set"),
        ({}, {"dist_url": FILE}, "nothing says which of how many"),
        (ALLOCATION, {"dist_url": TCP}, "nothing says which of how many"),
        (without(SRUN, "SLURM_JOB_ID"), {}, "neither MASTER_PORT nor SLURM_JOB_ID"),
        ({**SRUN, "SLURM_STEP_NODELIST": "[1-"}, {}, "SLURM's list of machines is"),
        ({}, {"dist_url": "host:1"}, "--dist_url is 'host:1', expected env://"),
        ({}, {"dist_url": "tcp://host"}, "--dist_url is 'tcp://host', expected"),
        ({}, {"dist_url": "file://relative/path"}, "--dist_url is 'file://relative/path'"),
        ({}, {"dist_url": "env://1.2.3.4"}, "--dist_url is 'env://1.2.3.4', expected"),
    ],
)
def test_contradictions_are_refused(
    environ: dict[str, str], flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_place(environ, **flags)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("login1", "login1"),
        ("gpu[003-005,9],login1", "gpu003"),
        ("login1,gpu[003-005]", "login1"),
        ("gpu[9,11]", "gpu9"),
        ("gpu[7]", "gpu7"),
        ("rack[2-3]node[04-05]", "rack2node04"),
        ("gpu[1-2].cluster.org,a", "gpu1.cluster.org"),
    ],
)
def test_the_first_host_of_a_list_of_slurm(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize("nodes", ["", "gpu[", "gpu[]", "gpu[1-2", "[,", "a b", "a/b"])
def test_lists_of_machines_that_are_none_are_refused(nodes: str) -> None:
    with pytest.raises(ConfigError, match="set MASTER_ADDR"):
        first_host(nodes)


def test_a_port_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="ports go up to 65535"):
        find_place({}, dist_url="tcp://host:99999", rank=0, world_size=2)
