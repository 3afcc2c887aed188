"""The files of a feature folder that hold numbers: one for every 256 videos of the work list.

A block carries what makes it trustworthy alone: the digest of the request it answers, the videos
of its span that failed, and a checksum over all of it. So a process needs to know nothing of the
others that fill the same folder, and a restart can tell finished, damaged and foreign files apart.

Axes: M rows of a block, D feature size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ssvideo_core.errors import DataError
from ssvideo_core.files import replacing

BLOCK_VIDEOS = 256
MEAN_OF_VIEWS = -1  # the `view` of a row that stands for all views of its video
NO_SOUND = "no sound"

_SCHEMA = 1
# One key only: safetensors writes several in no fixed order, and equal blocks are equal bytes.
_METADATA = "ssvideo-block"
_ARRAYS = {"values": np.float32, "video": np.int64, "view": np.int32}


class DamagedBlockError(DataError):
    """A block that cannot be read, or that no longer is what was written."""


@dataclass(frozen=True)
class Failure:
    """A video without features.

    video: its number in the work list. bad: False for a video that merely has no sound; only bad
    ones count towards giving up.
    """

    video: int
    video_id: str
    reason: str
    bad: bool = True


@dataclass(frozen=True)
class Block:
    """Features of a span of the work list.

    values: [M, D] float32. video: [M] int64 numbers in the work list, ascending. view: [M] int32
    number of the view, or MEAN_OF_VIEWS. failures: videos of the span without rows.
    missing_samples: samples of sound that were zeros because none were stored, over all its clips.
    """

    number: int
    values: NDArray[np.float32]
    video: NDArray[np.int64]
    view: NDArray[np.int32]
    failures: tuple[Failure, ...] = ()
    missing_samples: int = 0


def num_blocks(num_videos: int) -> int:
    """Blocks of a work list."""
    return -(-num_videos // BLOCK_VIDEOS)


def block_span(number: int, num_videos: int) -> range:
    """The videos of a block, as numbers in the work list."""
    return range(number * BLOCK_VIDEOS, min((number + 1) * BLOCK_VIDEOS, num_videos))


def block_path(folder: Path, number: int) -> Path:
    """FOLDER/block-000000.safetensors."""
    return folder / f"block-{number:06d}.safetensors"


def write_block(folder: Path, block: Block, request: str) -> None:
    """Store a block as a whole; request: digest of the request it answers."""
    arrays = _arrays(block)
    record = {
        "schema": _SCHEMA,
        "request": request,
        "block": block.number,
        "failures": [astuple(failure) for failure in block.failures],
        "missing_samples": block.missing_samples,
    }
    record["checksum"] = _checksum(record, arrays)
    with replacing(block_path(folder, block.number)) as file:
        file.write(save(arrays, metadata={_METADATA: json.dumps(record, sort_keys=True)}))


def read_block(folder: Path, number: int, request: str, num_videos: int) -> Block:
    """The block `number` of a work list of `num_videos`, verified.

    Raises DataError when it is missing, was not made for `request`, or holds other videos than
    those of its span; DamagedBlockError when it cannot be read or differs from its checksum.
    """
    path = block_path(folder, number)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_METADATA)
            if text is None:
                raise _foreign(path, "a safetensors file that is no block of features")
            record = json.loads(text)
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
            checksum = record.pop("checksum")
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: the same `extract` command given again computes it"
        ) from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    for key, wanted in (("schema", _SCHEMA), ("request", request), ("block", number)):
        if record.get(key) != wanted:
            raise _foreign(path, f"a block of features with {key} {record.get(key)}, not {wanted}")
    if _checksum(record, arrays) != checksum:
        raise _damaged(path, "its content differs from its checksum")
    failures = tuple(Failure(*values) for values in record["failures"])
    block = Block(number, **arrays, failures=failures, missing_samples=record["missing_samples"])
    _check_videos(path, block, block_span(number, num_videos))
    return block


def _arrays(block: Block) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(getattr(block, name), _ARRAYS[name]) for name in _ARRAYS}


def _checksum(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in _ARRAYS:
        digest.update(repr(arrays[name].shape).encode() + arrays[name].tobytes())
    return digest.hexdigest()


def _damaged(path: Path, why: object) -> DamagedBlockError:
    return DamagedBlockError(
        f"{path} is damaged ({why}): the same `extract` command given again computes it anew"
    )


def _foreign(path: Path, what: str) -> DataError:
    return DataError(f"{path} is {what}: it does not belong here, move it away and start again")


def _check_videos(path: Path, block: Block, span: range) -> None:
    found = np.concatenate([np.unique(block.video), [f.video for f in block.failures]])
    ascending = bool(np.all(np.diff(block.video) >= 0))
    if not ascending or not np.array_equal(np.sort(found), np.asarray(span)):
        raise DataError(
            f"{path} has features or failures of {len(np.unique(found))} videos, in "
            f"{len(found)} entries; expected videos {span.start} to {span.stop - 1} once each"
        )
