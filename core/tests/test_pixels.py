from __future__ import annotations

import numpy as np
import pytest
import torch
from ssvideo_torch.pixels import from_numpy, to_clips


def random_frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (0.45, 0.225), ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))]
)
def test_equals_loops(mean, std) -> None:
    frames = random_frames()
    got = to_clips(frames, mean=mean, std=std)
    means, stds = np.broadcast_to(mean, 3), np.broadcast_to(std, 3)
    want = np.empty((2, 3, 3, 4, 5))
    for b, t, y, x, c in np.ndindex(frames.shape):
        want[b, c, t, y, x] = (frames[b, t, y, x, c] / 255 - means[c]) / stds[c]
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-6)


def test_input_is_untouched_and_may_be_read_only() -> None:
    frames = random_frames()
    before = frames.copy()
    frames.setflags(write=False)
    got = to_clips(frames, mean=0.45, std=0.225)
    np.testing.assert_array_equal(frames, before)
    torch.testing.assert_close(to_clips(torch.from_numpy(before), mean=0.45, std=0.225), got)
    mirrored = to_clips(frames[:, :, :, ::-1], mean=0.45, std=0.225)
    torch.testing.assert_close(mirrored, got.flip(-1))


def test_from_numpy_shares_memory_where_it_can() -> None:
    array = np.zeros(3, np.float32)
    from_numpy(array)[0] = 1
    assert array[0] == 1
    array.setflags(write=False)
    from_numpy(array)[1] = 1
    assert array[1] == 0


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((1, 2, 4, 4, 3), np.float32), r"frames are torch.float32 \(1, 2, 4, 4, 3\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"torch.uint8 \(2, 4, 4, 3\), expected torch.uint8"),
    ],
)
def test_wrong_input(frames, message) -> None:
    with pytest.raises(ValueError, match=message):
        to_clips(frames)
