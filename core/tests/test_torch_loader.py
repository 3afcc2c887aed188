from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
import pytest
import torch
from ssvideo_core.batches import Batch, BatchView, Position, Replaced
from ssvideo_torch.loader import TorchBatch, to_device, to_device_ahead

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def make_batch(seed: int, pixels: int = 6) -> Batch:
    """A view with frames and params, and one with sound alone."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (4, 2, pixels, pixels, 3), np.uint8)
    sizes = rng.integers(1, 7, (4, 2))
    params = {"flip": rng.random(4) < 0.5, "angle": rng.random((4, 3)).astype(np.float32)}
    picture = BatchView(frames, sizes, None, np.zeros(4, np.int64), params)
    sound = rng.normal(size=(4, 9)).astype(np.float32)
    heard = BatchView(None, np.zeros((4, 2), np.int64), sound, rng.integers(0, 9, 4), {})
    replaced = (Replaced(f"video {seed}", "reason"),)
    return Batch(rng.integers(0, 99, 4), rng.integers(0, 9, 4), (picture, heard), replaced)


def arrays(batch: Batch) -> Iterator[np.ndarray]:
    yield from (batch.index, batch.label)
    for view in batch.views:
        optional = [array for array in (view.frames, view.sound) if array is not None]
        yield from (view.sizes, view.missing_samples, *optional, *view.params.values())


def assert_same(found: TorchBatch, expected: Batch, device: str = "cpu") -> None:
    for tensor, array in zip(found.tensors(), arrays(expected), strict=True):
        assert tensor.device.type == device
        assert torch.equal(tensor.cpu(), torch.from_numpy(array))
        assert tensor.dtype == torch.from_numpy(array).dtype
    assert found.replaced == expected.replaced


class Source:
    """Numbered batches, each made in `delay_s` seconds."""

    def __init__(self, count: int, delay_s: float = 0.0) -> None:
        self.count, self.delay_s, self.made, self.closed = count, delay_s, 0, False

    def __call__(self) -> Generator[tuple[Position, Batch], None, None]:
        try:
            for number in range(self.count):
                time.sleep(self.delay_s)
                self.made += 1
                yield Position(0, number), make_batch(number)
        finally:
            self.closed = True


def test_fields_are_the_same() -> None:
    batch = make_batch(0)
    found = to_device(batch, "cpu")
    assert_same(found, batch)
    picture, sound = found.views
    assert torch.equal(picture.frames, torch.from_numpy(batch.views[0].frames))
    assert torch.equal(sound.sound, torch.from_numpy(batch.views[1].sound))
    assert picture.sound is None
    assert sound.frames is None
    assert picture.params["flip"].dtype == torch.bool
    assert torch.equal(found.index, torch.from_numpy(batch.index))
    assert torch.equal(found.label, torch.from_numpy(batch.label))


def test_pixels_are_not_copied_on_the_cpu() -> None:
    batch = make_batch(0)
    assert to_device(batch, "cpu").views[0].frames.data_ptr() == batch.views[0].frames.ctypes.data


def test_passes_through_on_the_cpu() -> None:
    source = Source(4)
    with closing(to_device_ahead(source(), "cpu")) as loaded:
        for number, (position, batch) in enumerate(loaded):
            assert position == Position(0, number)
            assert_same(batch, make_batch(number))
            assert source.made == number + 1  # nothing ahead
    assert (number, source.closed) == (3, True)
    with pytest.raises(StopIteration):
        next(loaded)


def test_closing_early_closes_the_batches() -> None:
    source = Source(4)
    with closing(to_device_ahead(source(), torch.device("cpu"))) as loaded:
        next(loaded)
        assert not source.closed
    assert source.closed


def test_seconds_of_waiting() -> None:
    loaded = to_device_ahead(Source(3, delay_s=0.05)(), "cpu")
    assert loaded.waiting_s == 0
    began = time.monotonic()
    for number, _ in enumerate(loaded, start=1):
        assert loaded.waiting_s >= 0.05 * number
        time.sleep(0.1)  # use of a batch, which is no waiting
    assert loaded.waiting_s <= time.monotonic() - began - 0.3


@needs_gpu
def test_fields_are_the_same_on_a_gpu() -> None:
    batch = make_batch(0)
    assert_same(to_device(batch, "cuda"), batch, "cuda")
    assert_same(to_device(batch, "cuda", non_blocking=False), batch, "cuda")


@needs_gpu
def test_a_gpu_gets_the_next_batch_ahead() -> None:
    source = Source(6)
    with closing(to_device_ahead(source(), "cuda")) as loaded:
        next(loaded)
        until = time.monotonic() + 20
        while source.made < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert source.made == 2
    assert source.closed


@needs_gpu
def test_memory_in_use_is_not_overwritten() -> None:
    def large() -> Generator[tuple[Position, Batch], None, None]:
        for number in range(12):
            yield Position(0, number), make_batch(number, pixels=400)

    sums = []
    for _, batch in to_device_ahead(large(), "cuda"):
        torch.cuda._sleep(20_000_000)  # the GPU uses the batch long after Python dropped it
        sums.append(sum(tensor.double().sum() for tensor in batch.tensors()))
    for number, total in enumerate(sums):
        expected = sum(array.astype(np.float64).sum() for array in arrays(make_batch(number, 400)))
        assert total.item() == pytest.approx(expected, rel=1e-12)
