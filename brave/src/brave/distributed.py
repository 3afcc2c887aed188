"""One or many devices and processes: who this process is, and arrays that are spread over devices.

Every process drives the devices of its machine that it sees; together they are one mesh with the
axis `AXIS`. Batches are spread over it, everything else is on each device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, SSVideoError

AXIS = "devices"
_SHUTDOWN_S = 30  # for the others to end too
_TOLD_BYTES = 2000  # of an error that the other processes hear of

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """One process among several. None: `jax.distributed` finds it out, as in a step of SLURM."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def find_place(
    environ: Mapping[str, str],
    *,
    coordinator: str = "",
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Place | None:
    """Where this process meets others; None when it is alone.

    The three flags decide; without them a task of srun (SLURM_STEP_NUM_TASKS above 1) meets the
    other tasks of its step. What a job runs without srun is alone. Raises ConfigError when only
    some of the flags are given, or numbers that cannot be.
    """
    given = (bool(coordinator), num_processes is not None, process_id is not None)
    if any(given):
        if not all(given):
            raise ConfigError(
                "--coordinator, --num-processes and --process-id go together; give all or none"
            )
        assert num_processes is not None and process_id is not None, "all are given"
        if not 0 <= process_id < num_processes:
            raise ConfigError(
                f"--process-id {process_id} of --num-processes {num_processes}: expected 0 to "
                f"{num_processes - 1}"
            )
        return Place(coordinator, num_processes, process_id) if num_processes > 1 else None
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    return Place() if tasks.isdecimal() and int(tasks) > 1 else None


@contextmanager
def start(place: Place | None, device: str = "") -> Iterator[Processes]:
    """This process among those that train together, with its devices.

    device: "cpu", "cuda", "tpu", … are all of this kind, "cuda:1" is one of them; "": JAX's choice.
    Raises ConfigError for a device that does not exist.
    """
    if place is None:
        yield _processes(device)
        return
    if device.partition(":")[2]:
        raise ConfigError(f"--device {device} is one device; several processes take a kind of them")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.num_processes,
            place.process_id,
            shutdown_timeout_seconds=_SHUTDOWN_S,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the processes did not meet ({error}). All need the same --coordinator HOST:PORT of "
            "process 0, the same --num-processes, and a --process-id of their own"
        ) from error
    try:
        yield _processes(device)
    except BaseException as error:
        # Said at once: the others may wait for this process until the end of their patience.
        logger.error("process %d stops: %r", jax.process_index(), error)
        with suppress(RuntimeError):  # others that do not stop too must not hide the reason
            jax.distributed.shutdown()  # type: ignore[no-untyped-call]
        raise
    jax.distributed.shutdown()  # type: ignore[no-untyped-call]


def _processes(device: str) -> Processes:
    kind, _, number = device.partition(":")
    try:
        devices = jax.devices(kind or None)
        if number:
            devices = [devices[int(number)]]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(f"--device {device} cannot be used: {error}") from None
    ordered = sorted(devices, key=lambda one: (one.process_index, one.id))
    return Processes(jax.process_index(), jax.process_count(), Mesh(np.array(ordered), (AXIS,)))


@dataclass
class Processes:
    """This process among those that train together; all must make the same calls."""

    rank: int
    world_size: int
    mesh: Mesh
    _asked: Array | None = field(default=None, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes what all have in common."""
        return self.rank == 0

    @property
    def num_devices(self) -> int:
        """Of all processes."""
        return int(self.mesh.devices.size)

    @property
    def local_devices(self) -> list[jax.Device]:
        """Those of this process, in the order of the mesh."""
        return [one for one in self.mesh.devices.flat if one.process_index == self.rank]

    @cached_property
    def replicated(self) -> NamedSharding:
        """A whole array on each device."""
        return NamedSharding(self.mesh, PartitionSpec())  # type: ignore[no-untyped-call]

    @cached_property
    def spread(self) -> NamedSharding:
        """The first axis over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))  # type: ignore[no-untyped-call]

    def replicate(self, tree: Any) -> Any:
        """Arrays that every process has, on every device."""
        return jax.tree.map(lambda leaf: _placed(self.replicated, np.asarray(leaf)), tree)

    def join(self, parts: Sequence[Array]) -> Array:
        """One array from equal parts of its first axis, one on each of `local_devices`."""
        rows = len(parts[0]) * self.num_devices
        shape = (rows, *parts[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self.spread, list(parts))

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether any process said true; the same answer on all of them.

        Several processes get the answer about the flags of the call before, so that none waits for
        the step that the devices still compute; the first answer is false. A lone process gets its
        own flags at once.
        """
        if self.world_size == 1:
            return flags
        before = self._asked
        own = np.tile(np.array([flags], np.int32), (len(self.local_devices), 1))
        self._asked = self._largest(_placed(self.spread, own))
        if before is None:
            return (False,) * len(flags)
        return tuple(bool(value) for value in np.asarray(before))

    @cached_property
    def _largest(self) -> Callable[[Array], Array]:
        return jax.jit(lambda flags: flags.max(axis=0), out_shardings=self.replicated)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            multihost_utils.sync_global_devices("brave")

    def together(self, action: Callable[[], T]) -> T:
        """What `action` gives here, once all processes have done theirs.

        A user's error of one process (SSVideoError, or an OSError about a path) is raised by all,
        so that nobody waits for who has left; other errors are not caught. All processes call it,
        with actions that need no other process.
        """
        error, value = None, None
        try:
            value = action()
        except (SSVideoError, OSError) as caught:
            error = caught
        if self.world_size > 1:
            told = self._gather_text("" if error is None else f"process {self.rank}: {error}")
            first = next((text for text in told if text), None)
            if first is not None and error is None:
                raise SSVideoError(first)
        if error is not None:
            raise error
        return cast(T, value)

    def check_equal(self, what: str, value: object) -> None:
        """Raise ConfigError, in all processes, unless all give the same value.

        what: its name for the message. All processes call it together.
        """
        if self.world_size == 1:
            return
        told = self._gather_text(str(value))
        if len(set(told)) > 1:
            listed = ", ".join(f"{text} in process {rank}" for rank, text in enumerate(told))
            raise ConfigError(
                f"the processes differ in {what}: {listed}. All machines need the same shards and "
                "a folder of the run that they share"
            )

    def _gather_text(self, text: str) -> list[str]:
        own = np.zeros(_TOLD_BYTES, np.uint8)
        data = np.frombuffer(text.encode()[:_TOLD_BYTES], np.uint8)
        own[: len(data)] = data
        everyone: NDArray[np.uint8] = np.asarray(multihost_utils.process_allgather(own))  # type: ignore[no-untyped-call]
        return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in everyone]


def _placed(sharding: NamedSharding, own: NDArray[Any]) -> Array:
    """A global array from what this process has of it."""
    made: Array = jax.make_array_from_process_local_data(sharding, own)  # type: ignore[no-untyped-call]
    return made
