"""Which process of how many this one is, and how they meet: torchrun, srun, or flags.

`find_place` reads flags and environment and touches nothing; `start` acts on what it found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from ssvideo_core.errors import ConfigError, SSVideoError
from torch import Tensor

T = TypeVar("T")
Launcher = Literal["none", "flags", "torchrun", "srun"]

_RESERVED_STEPS = 0xFFFFFFF0  # SLURM's steps from here on are the batch script, a shell, ...
_LOST = "Connection closed by peer"  # what gloo says when another process has ended
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


def choose_device(device: str, place: Place, num_gpus: int) -> torch.device:
    """The device of this process: `cpu`, `cuda` (the GPU of its local rank), or `cuda:N` if alone.

    num_gpus: how many this process sees. A task of srun that sees only one GPU takes it, because
    SLURM then gave each task its own. Raises ConfigError when there is no such device.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device is {device!r}, expected cpu, cuda or cuda:N")
    if wanted.type == "cpu":
        return torch.device("cpu")
    if num_gpus == 0:
        raise ConfigError(
            f"--device is {device}, but PyTorch {torch.__version__} finds no GPU on this machine; "
            "add --device cpu"
        )
    if wanted.index is not None and place.world_size > 1:
        raise ConfigError(
            f"--device {device} would give one GPU to all {place.world_size} processes; "
            "give --device cuda, and each takes the one of its local rank"
        )
    index = place.local_rank if wanted.index is None else wanted.index
    if index is None:
        raise ConfigError(
            f"nothing says which GPU is for rank {place.rank}; add --local_rank=N, N counted from "
            "0 on each machine, or start by torchrun"
        )
    if place.launcher == "srun" and num_gpus == 1 and wanted.index is None:
        index = 0
    if index >= num_gpus:
        raise ConfigError(
            f"rank {place.rank} wants cuda:{index}, but this machine shows {num_gpus} GPUs; start "
            "no more processes on a machine than it has GPUs"
        )
    return torch.device("cuda", index)


@dataclass
class Process:
    """This process among those that train together; every rank must make the same calls."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device
    _control: dist.ProcessGroup | None = field(default=None, repr=False)  # gloo; None: alone
    _asked: tuple[dist.Work, Tensor] | None = field(default=None, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes what all have in common."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every rank is here. Work that a GPU still has to do is not waited for."""
        if self._control is not None:
            # Not dist.barrier, which picks a GPU by itself where there is one.
            dist.all_reduce(torch.zeros(1, dtype=torch.int32), group=self._control)

    def gather(self, tensor: Tensor) -> Tensor:
        """Everyone's tensor: [*shape] to [W, *shape], by rank, on the same device, no gradient.

        tensor: of the same shape and dtype on every rank, on the CPU or on this process' device.
        Always a copy, also for a lone process.
        """
        own = tensor.detach().contiguous()
        if self._control is None:
            return own[None].clone()
        everyone = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(everyone, own, group=None if own.is_cuda else self._control)
        return torch.stack(everyone)

    def agreed(self, flag: bool) -> bool:
        """Whether any rank said true: the same answer on every rank at the same call.

        The answer is about the flags of the call before, so nobody waits for the slowest rank of
        this step, and no GPU is waited for; the first answer is false. A lone process gets its own
        flag at once.
        """
        if self._control is None:
            return flag
        before = self._answer()
        asked = torch.tensor([int(flag)], dtype=torch.int32)
        work = dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=self._control, async_op=True)
        self._asked = (work, asked)
        return before

    def together(self, action: Callable[[], T]) -> T:
        """What `action` gives on this rank, once all ranks have done theirs.

        A user's error on one rank (SSVideoError, or an OSError about a path) is raised on all, so
        that nobody waits for who has left; of several, that of the lowest rank. Other errors are
        not caught. All ranks call it, with actions that need no other rank.
        """
        error, value = None, None
        try:
            value = action()
        except (SSVideoError, OSError) as caught:
            error = caught
        if self._control is not None:
            told: list[Any] = [None] * self.world_size
            own = None if error is None else f"rank {self.rank}: {error}"
            dist.all_gather_object(told, own, group=self._control)
            first = next((text for text in told if text is not None), None)
            if first is not None and error is None:
                raise SSVideoError(first)
        if error is not None:
            raise error
        return cast(T, value)

    def _answer(self) -> bool:
        if self._asked is None:
            return False
        work, answer = self._asked
        self._asked = None
        work.wait()
        return bool(answer.item())


@contextmanager
def start(
    device: str,
    *,
    dist_url: str = "env://",
    local_rank: int = -1,
    rank: int | None = None,
    world_size: int | None = None,
    timeout_s: float = 1800,
) -> Iterator[Process]:
    """Join the processes that train together, for the time of the context.

    device: `cpu`, `cuda` or, for a lone process, `cuda:N`; the other flags are those of
    `find_place`. timeout_s: how long a rank waits for another, at the start and in each collective.

    The GPU becomes torch's current one. Collectives use NCCL on GPUs and gloo on CPUs; a lone
    process makes no group. The group is gone after the context. Raises ConfigError as `find_place`
    and `choose_device` do, and when the processes do not find each other.
    """
    place = find_place(
        os.environ, dist_url=dist_url, local_rank=local_rank, rank=rank, world_size=world_size
    )
    chosen = choose_device(device, place, torch.cuda.device_count())
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    process = _join(place, chosen, timeout_s)
    try:
        yield process
        process._answer()
        process.barrier()  # rank 0 may host what the others still use
    except BaseException as error:
        # The others may be waiting for this process, and NCCL would wait for them to end it.
        if dist.is_initialized() and chosen.type == "cpu":
            dist.destroy_process_group()
        if isinstance(error, RuntimeError) and _LOST in str(error):
            raise SSVideoError(
                f"rank {place.rank} lost its connection to another process, which ended; its own "
                "message says why"
            ) from None
        raise
    if dist.is_initialized():
        dist.destroy_process_group()


def start_in_pool(rank: int, world_size: int, folder: Path) -> Process:
    """A process of a test's pool: on the CPU, one thread, meeting the others in `folder`.

    The group lives as long as the process.
    """
    torch.set_num_threads(1)
    meeting_point = None if world_size == 1 else f"file://{(folder / 'meeting').absolute()}"
    return _join(Place(rank, world_size, rank, meeting_point), torch.device("cpu"), 60)


def _join(place: Place, device: torch.device, timeout_s: float) -> Process:
    local_rank = place.rank if place.local_rank is None else place.local_rank
    if place.meeting_point is None:
        return Process(place.rank, place.world_size, local_rank, device)
    parts = urlsplit(place.meeting_point)
    if parts.scheme == "file" and not Path(parts.path).parent.is_dir():
        raise ConfigError(
            f"--dist_url is {place.meeting_point!r}; there is no folder {Path(parts.path).parent}"
        )
    timeout = timedelta(seconds=timeout_s)
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=place.meeting_point,
            rank=place.rank,
            world_size=place.world_size,
            timeout=timeout,
        )
        control = dist.new_group(backend="gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:  # gloo has no type of its own for it
        raise ConfigError(
            f"rank {place.rank} of {place.world_size} did not meet the others at "
            f"{place.meeting_point} within {timeout_s:g} s ({error}); see that all "
            f"{place.world_size} are started, that their numbers differ, that they reach this "
            "place, and that a file:// is not left over from an earlier run"
        ) from error
    assert isinstance(control, dist.ProcessGroup), "every rank is a member"
    return Process(place.rank, place.world_size, local_rank, device, control)


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
