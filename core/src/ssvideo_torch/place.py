"""Which process of how many this one is: torchrun, srun, or flags say it.

Reads flags and environment and touches nothing; `start.start` acts on what is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from ssvideo_core.errors import ConfigError

Launcher = Literal["none", "flags", "torchrun", "srun"]

_RESERVED_STEPS = 0xFFFFFFF0  # SLURM's steps from here on are the batch script, a shell, ...
_LAST_PORT = 65_535
_FIRST_PORT, _NUM_PORTS = 10_000, 20_000  # below those that systems hand out themselves


@dataclass(frozen=True)
class Place:
    """One process among `world_size`.

    local_rank: its number on its machine, None where nothing says it.
    meeting_point: what torch.distributed calls init_method; None for a lone process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int | None = 0
    meeting_point: str | None = None
    launcher: Launcher = "none"


def find_place(
    environ: Mapping[str, str],
    *,
    dist_url: str = "env://",
    local_rank: int = -1,
    rank: int | None = None,
    world_size: int | None = None,
) -> Place:
    """Which process this is, from flags and the variables that launchers set.

    dist_url: `env://`, `tcp://host:port` or `file:///path`, where the processes meet; the path must
        be on a disk that all see, and of a file that is not there yet.
    local_rank: the flag that torch.distributed.launch passes to each process, -1 for not given.
    rank, world_size: flags, None or negative for not given.

    The first of these that is there decides: the two flags; RANK and WORLD_SIZE (torchrun and
    torch.distributed.launch, also inside a SLURM job); the variables of a task started by srun,
    which with `env://` meet at MASTER_ADDR and MASTER_PORT, or else on the first machine of the
    step at a port made from the numbers of job and step. Otherwise the process is alone. So is what
    a job allocation runs without srun (a shell of salloc, the batch script itself), however many
    tasks SLURM_NTASKS promises: waiting for tasks that nobody starts would never end.

    Raises ConfigError for half of the numbers, numbers that contradict each other, and a meeting
    point that is unknown, incomplete, or given to a process that is alone.
    """
    _check_dist_url(dist_url)
    by_flags = _pair("the flags rank and world_size", _given(rank), _given(world_size))
    by_env = _pair(
        "the variables RANK and WORLD_SIZE",
        _number(environ, "RANK"),
        _number(environ, "WORLD_SIZE"),
    )
    if by_flags and by_env and by_flags != by_env:
        raise ConfigError(
            f"the flags say rank {by_flags[0]} of {by_flags[1]}, the environment variables RANK "
            f"and WORLD_SIZE say {by_env[0]} of {by_env[1]}; leave the flags out"
        )
    by_srun = _slurm_task(environ) if not (by_flags or by_env) else None
    launcher: Launcher = (
        "torchrun" if by_env else "flags" if by_flags else "srun" if by_srun else "none"
    )
    number, of = by_env or by_flags or by_srun or (0, 1)
    local = _local_rank(environ, local_rank, launcher, number, of)
    if launcher == "none" and dist_url != "env://":
        raise ConfigError(
            f"processes shall meet at {dist_url}, but nothing says which of how many this one is; "
            "start it by torchrun or srun, or give rank and world size"
        )
    if of == 1:
        return Place(local_rank=local, launcher=launcher)
    return Place(number, of, local, _meeting_point(environ, dist_url, launcher), launcher)


def first_host(nodes: str) -> str:
    """The first machine of a list as SLURM writes it: `gpu[003-005,9],login1` gives gpu003.

    Raises ConfigError when the text is no such list.
    """
    host = re.sub(r"\[([^],\-[]+)[^][]*\]", r"\1", nodes).split(",")[0]
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise ConfigError(
            f"SLURM's list of machines is {nodes!r}, expected one like gpu[003-005,9],login1; "
            "set MASTER_ADDR to the first machine"
        )
    return host


def _check_dist_url(dist_url: str) -> None:
    parts = urlsplit(dist_url)
    known = {
        "env": not parts.netloc and not parts.path,
        "tcp": re.fullmatch(r"\S+:\d+", parts.netloc) is not None,
        "file": not parts.netloc and len(parts.path) > 1,
    }
    if not known.get(parts.scheme, False):
        raise ConfigError(
            f"--dist_url is {dist_url!r}, expected env://, tcp://HOST:PORT or file:///PATH"
        )
    if parts.scheme == "tcp" and int(parts.netloc.rpartition(":")[2]) > _LAST_PORT:
        raise ConfigError(f"--dist_url is {dist_url!r}; ports go up to {_LAST_PORT}")


def _given(flag: int | None) -> int | None:
    return None if flag is None or flag < 0 else flag


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"the environment variable {name} is {text!r}, expected a whole number")
    return int(text)


def _pair(what: str, rank: int | None, world_size: int | None) -> tuple[int, int] | None:
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise ConfigError(f"of {what} only one is there; give both or neither")
    if not rank < world_size:
        raise ConfigError(f"{what} say {rank} and {world_size}, expected a rank below the size")
    return rank, world_size


def _slurm_task(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """Rank and world size of a task of srun; None for anything else."""
    rank, step = _number(environ, "SLURM_PROCID"), _number(environ, "SLURM_STEP_ID")
    # A batch script is numbered 0 as if it were a task, and what it starts inherits the mark BATCH.
    batch_script = step is None and environ.get("ENVIRONMENT") == "BATCH"
    if rank is None or batch_script or (step or 0) >= _RESERVED_STEPS:
        return None
    # Inside a step SLURM_NTASKS may still be that of the whole job.
    name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    return _pair(f"the variables SLURM_PROCID and {name}", rank, _number(environ, name))


def _local_rank(
    environ: Mapping[str, str], flag: int, launcher: Launcher, rank: int, world_size: int
) -> int | None:
    variable = _number(environ, "SLURM_LOCALID" if launcher == "srun" else "LOCAL_RANK")
    if flag >= 0 and variable is not None and flag != variable:
        raise ConfigError(
            f"the flag --local_rank is {flag}, the launcher's variable says {variable}; leave the "
            "flag out"
        )
    local = flag if flag >= 0 else variable
    if local is None:
        return 0 if world_size == 1 else None
    if local > rank:
        raise ConfigError(
            f"the local rank is {local}, but this is rank {rank} of {world_size}; RANK, WORLD_SIZE "
            "and LOCAL_RANK belong together: start by torchrun, or set all three"
        )
    return local


def _meeting_point(environ: Mapping[str, str], dist_url: str, launcher: Launcher) -> str:
    if dist_url != "env://":
        return dist_url
    if launcher == "srun":
        return _slurm_meeting_point(environ)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"the processes meet at env://, but {' and '.join(missing)} are not set; start by "
            "torchrun, set them, or give --dist_url tcp://HOST:PORT"
        )
    return dist_url


def _slurm_meeting_point(environ: Mapping[str, str]) -> str:
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    host = environ.get("MASTER_ADDR") or first_host(nodes)
    port = _number(environ, "MASTER_PORT")
    if port is None:
        job = _number(environ, "SLURM_JOB_ID")
        if job is None:
            raise ConfigError("neither MASTER_PORT nor SLURM_JOB_ID is set; set MASTER_PORT")
        # Steps of one job may run at the same time.
        port = _FIRST_PORT + (31 * job + (_number(environ, "SLURM_STEP_ID") or 0)) % _NUM_PORTS
    return f"tcp://{host}:{port}"
