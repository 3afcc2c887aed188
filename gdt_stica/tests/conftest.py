"""Commands that tests start in processes of their own find PyTorch imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ssvideo_core.testing.programs import preload
from ssvideo_core.testing.synthetic import write_dataset

preload("torch", "torch._dynamo")  # the second one because every optimizer imports it


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small embedded data set, and caches that end with the module."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSVIDEO_CACHE", str(folder / "cache"))
        patch.setenv("SSVIDEO_WEIGHTS", str(folder / "weights"))
        yield write_dataset(folder / "embedded", num_train=16, num_test=16, size=32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the battery's undisturbed run is made once."""
    return tmp_path_factory.mktemp("runs")
