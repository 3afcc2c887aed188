"""Features that an evaluation has finished, so that it goes on after an interruption."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.blocks import (
    Block,
    DamagedBlockError,
    block_path,
    block_span,
    num_blocks,
    read_block,
    write_block,
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptFeatures:
    """One file for every 256 videos of a part.

    folder: for this part and this request alone. request: what stands for all that decides the
    features. M clips of a block, D feature size.
    """

    folder: Path
    request: str

    def read(self, num_videos: int) -> dict[int, NDArray[np.float32]]:
        """The features [M, D] of each block that is there, by its number.

        A damaged one is left out, with a warning in the log. Raises DataError for files that were
        made for another request.
        """
        found = {}
        for number in range(num_blocks(num_videos)):
            path = block_path(self.folder, number)
            if not path.exists():
                continue
            try:
                found[number] = read_block(self.folder, number, self.request, num_videos).values
            except DamagedBlockError:
                _LOG.warning("%s is damaged and will be made again", path)
        return found

    def write(self, number: int, num_videos: int, values: NDArray[np.float32]) -> None:
        """Store the features [M, D] of a block, equally many clips a video."""
        self.folder.mkdir(parents=True, exist_ok=True)
        span = np.asarray(block_span(number, num_videos))
        clips = len(values) // len(span)
        views = np.tile(np.arange(clips, dtype=np.int32), len(span))
        write_block(self.folder, Block(number, values, span.repeat(clips), views), self.request)
