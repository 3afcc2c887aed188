"""Batches as tensors on the device, the next one on its way while the current one is used.

Axes: B samples of a batch, T frames, H, W pixels, N samples of sound.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from ssvideo_core.batches import Batch, BatchView, Position, Replaced, ahead
from torch import Tensor

from ssvideo_torch.pixels import from_numpy


@dataclass(frozen=True)
class TorchView:
    """`BatchView` as tensors.

    frames: (B, T, H, W, 3) uint8 or None; `pixels.to_clips` makes a network's input of them.
    sizes: (B, 2) int64. sound: (B, N) float32 or None. missing_samples: (B,) int64.
    params: (B, ...) each, of the dtype they had.
    """

    frames: Tensor | None
    sizes: Tensor
    sound: Tensor | None
    missing_samples: Tensor
    params: Mapping[str, Tensor]

    def tensors(self) -> Iterator[Tensor]:
        optional = [tensor for tensor in (self.frames, self.sound) if tensor is not None]
        yield from (self.sizes, self.missing_samples, *optional, *self.params.values())


@dataclass(frozen=True)
class TorchBatch:
    """`Batch` as tensors. index, label: (B,) int64."""

    index: Tensor
    label: Tensor
    views: tuple[TorchView, ...]
    replaced: tuple[Replaced, ...]

    def tensors(self) -> Iterator[Tensor]:
        yield from (self.index, self.label)
        for view in self.views:
            yield from view.tensors()


def to_device(batch: Batch, device: torch.device | str, *, non_blocking: bool = True) -> TorchBatch:
    """The same values as tensors on `device`; on the CPU over the same memory.

    non_blocking: to a GPU, copy from pinned memory in the current stream without waiting for it.
    """
    device = torch.device(device)

    def move(array: NDArray[Any]) -> Tensor:
        tensor = from_numpy(array)
        if device.type == "cuda" and non_blocking:
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=non_blocking)

    def move_view(view: BatchView) -> TorchView:
        return TorchView(
            frames=None if view.frames is None else move(view.frames),
            sizes=move(view.sizes),
            sound=None if view.sound is None else move(view.sound),
            missing_samples=move(view.missing_samples),
            params={name: move(values) for name, values in view.params.items()},
        )

    views = tuple(move_view(view) for view in batch.views)
    return TorchBatch(move(batch.index), move(batch.label), views, batch.replaced)


def to_device_ahead(
    batches: Generator[tuple[Position, Batch], None, None], device: torch.device | str
) -> DeviceBatches:
    """The batches on `device`, as tensors with their positions.

        with closing(to_device_ahead(batches(...), device)) as loaded:
            for position, batch in loaded:

    To a GPU, a thread copies the next batch in a stream of its own while the current one is used;
    two batches lie on the device then. Elsewhere nothing is done ahead.
    """
    return DeviceBatches(batches, device)


class _Copied(NamedTuple):
    """ready: when the GPU has the batch; None elsewhere."""

    position: Position
    batch: TorchBatch
    ready: torch.cuda.Event | None


class DeviceBatches(Iterator[tuple[Position, TorchBatch]]):
    """What `to_device_ahead` gives. waiting_s: seconds so far in which data was waited for."""

    def __init__(
        self, batches: Generator[tuple[Position, Batch], None, None], device: torch.device | str
    ) -> None:
        self.waiting_s = 0.0
        device = torch.device(device)
        if device.type == "cuda":
            aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._copied = ahead(_copied_aside(batches, aside))
        else:
            self._copied = _copied(batches, device)

    def __next__(self) -> tuple[Position, TorchBatch]:
        asked = time.monotonic()
        try:
            position, batch, ready = next(self._copied)
        finally:
            self.waiting_s += time.monotonic() - asked
        if ready is not None:
            current = torch.cuda.current_stream(batch.index.device)
            current.wait_event(ready)
            for tensor in batch.tensors():
                tensor.record_stream(current)  # else its memory is free to the other stream
        return position, batch

    def close(self) -> None:
        """End what makes the batches, workers too."""
        self._copied.close()


def _copied(
    batches: Generator[tuple[Position, Batch], None, None], device: torch.device
) -> Generator[_Copied, None, None]:
    with closing(batches):
        for position, batch in batches:
            yield _Copied(position, to_device(batch, device), None)


def _copied_aside(
    batches: Generator[tuple[Position, Batch], None, None], stream: torch.cuda.Stream
) -> Generator[_Copied, None, None]:
    with closing(batches):
        for position, batch in batches:
            # The stream's device too: a new thread's is the first GPU, also for pinned memory.
            with torch.cuda.stream(stream):
                copy, ready = to_device(batch, stream.device), stream.record_event()
            yield _Copied(position, copy, ready)
