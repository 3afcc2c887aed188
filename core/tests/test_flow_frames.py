from __future__ import annotations

import io
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from ssvideo_core.errors import ConfigError, DecodeError
from ssvideo_core.formats.flow_frames import (
    METHODS,
    encode_flow,
    flow_method,
    frame_size,
    grey,
    quantise,
    resized,
)

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def cv2() -> ModuleType:
    module: ModuleType = pytest.importorskip("cv2")
    return module


def texture(right: float, down: float) -> np.ndarray:
    """A smooth grey picture [H, W] uint8 whose content lies that many pixels further."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    x, y = x - right, y - down
    waves = np.sin(x / 3) + np.sin(y / 4) + np.sin((x + y) / 5) + np.cos((x - 2 * y) / 7)
    return np.asarray(np.rint(127.5 + 30 * waves), np.uint8)


def test_levels_of_the_specification() -> None:
    flow = np.linspace(-25, 25, 5001, dtype=np.float32)
    bounded = np.clip(flow.astype(np.float64), -20, 20)
    wanted = np.rint((bounded + 20) * 255 / 40)
    levels = quantise(flow)
    assert levels.dtype == np.uint8
    assert np.abs(levels - wanted).max() <= 1 and np.mean(levels == wanted) > 0.999
    exact = np.array([0, -20, 20, -1e9, 1e9, np.inf, 4, -4], np.float32)
    assert quantise(exact).tolist() == [128, 0, 255, 0, 255, 255, 153, 102]


def test_halves_go_to_the_even_level() -> None:
    # n / 2 levels; what float32 makes of them is not always a half.
    halves = np.array([-20 + 4 * n / 51 for n in range(1, 510, 2)], np.float64)
    levels = quantise(halves.astype(np.float32))
    on_half = (halves.astype(np.float32) + np.float32(20)) * np.float32(6.375) % 1 == 0.5
    assert on_half.sum() > 20
    assert np.all(levels[on_half] % 2 == 0)


@pytest.mark.parametrize(
    ("width", "height", "short_side", "size"),
    [
        (320, 240, 240, (320, 240)),
        (300, 200, 150, (225, 150)),
        (200, 301, 150, (150, 225)),
        (499, 333, 256, (383, 256)),
        (10, 10, 20, (20, 20)),
    ],
)
def test_the_longer_side_is_rounded_down(
    width: int, height: int, short_side: int, size: tuple[int, int]
) -> None:
    assert frame_size(width, height, short_side) == size


def test_resizing_is_bilinear_without_smoothing(cv2: ModuleType) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    small = resized(frame, 8)
    # A third of the size: the middle of each 3 x 3 pixels.
    assert small.shape == (8, 12, 3) and np.array_equal(small, frame[1::3, 1::3])
    assert np.array_equal(resized(frame, 24), frame)


def test_grey_weighs_the_colours(cv2: ModuleType) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    wanted = np.rint(frame @ np.array([0.299, 0.587, 0.114]))
    assert np.abs(grey(frame) - wanted).max() <= 1
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert grey(colours).tolist() == [[76, 150, 29]]


@pytest.mark.parametrize(("method", "error_px"), [("tvl1", 0.1), ("dis", 0.5)])
@pytest.mark.parametrize(("right", "down"), [(2.0, -1.0), (-1.5, 0.5), (0.0, 0.0)])
def test_flow_goes_from_the_first_frame_to_the_second(
    cv2: ModuleType, method: str, error_px: float, right: float, down: float
) -> None:
    flow = flow_method(method)(texture(0, 0), texture(right, down))
    assert flow.shape == (HEIGHT, WIDTH, 2) and flow.dtype == np.float32
    inner = flow[8:-8, 8:-8].reshape(-1, 2)
    assert np.abs(np.median(inner, axis=0) - (right, down)).max() < error_px


def test_one_thread(cv2: ModuleType) -> None:
    cv2.setNumThreads(2)
    for method in METHODS:
        flow_method(method)
        assert cv2.getNumThreads() == 1


def test_frames_too_small_for_a_method(cv2: ModuleType) -> None:
    frames = np.zeros((2, 6, 8), np.uint8)
    assert flow_method("tvl1")(*frames).shape == (6, 8, 2)
    with pytest.raises(DecodeError, match="dis of 6 x 8 pixels"):
        flow_method("dis")(*frames)


def test_x_is_blue_and_y_is_green(cv2: ModuleType) -> None:
    levels = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    levels[..., 0], levels[..., 1] = 150, 110
    jpeg = encode_flow(levels)
    red, green, blue = np.moveaxis(np.asarray(Image.open(io.BytesIO(jpeg)), np.int64), -1, 0)
    for found, wanted in ((red, 128), (green, 110), (blue, 150)):
        assert np.abs(found - wanted).max() <= 3


def test_the_jpeg_is_that_of_the_originals(cv2: ModuleType) -> None:
    jpeg = encode_flow(np.zeros((HEIGHT, WIDTH, 2), np.uint8))
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.size == (WIDTH, HEIGHT)
        # Quality 100 divides by 1; four pixels share their colour.
        assert all(set(table) == {1} for table in picture.quantization.values())
        assert [layer[1:3] for layer in picture.layer] == [(2, 2), (1, 1), (1, 1)]


def test_another_method_is_refused(cv2: ModuleType) -> None:
    with pytest.raises(ConfigError, match="method is 'raft', expected tvl1 or dis"):
        flow_method("raft")


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"cannot be imported.*'ssvideo-core\[flow\]'"):
        flow_method("tvl1")
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    with pytest.raises(ConfigError, match=r"without its contrib modules.*'ssvideo-core\[flow\]'"):
        flow_method("dis")
