"""Processes that train together: how they meet, and what they do together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from ssvideo_core.errors import ConfigError, SSVideoError
from torch import Tensor

from ssvideo_torch.place import Place, find_place

T = TypeVar("T")

_LOST = "Connection closed by peer"  # what gloo says when another process has ended


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
