"""The weights of a run before its end: a checkpoint, and the file that says what its network is.

A checkpoint holds tensors only. A run writes its network as a file of weights before the first
step, with the architecture and the clips of every encoder as metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ssvideo_core.checkpoint_files import CHECKPOINTS, locate_checkpoint
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.weights.locate import ENCODER_FILE

# What a run's network was before its first step: of pre-training, of fine-tuning.
UNTRAINED_FILE, START_FILE = "encoder-untrained.safetensors", "encoder-start.safetensors"

logger = logging.getLogger(__name__)


def find_checkpoint(weights: str, published: Sequence[PublishedWeights]) -> Path | None:
    """The checkpoint that `weights` means; None for a published name, and what `locate` finds.

    weights: among others a `ckpt-STEP/`, or the folder of a run, which means its newest complete
    one while there is no encoder.safetensors. Raises DataError for a folder without a whole one.
    """
    folder = Path(weights).expanduser()
    is_name = any(record.name == weights for record in published)
    if is_name or not folder.is_dir() or (folder / ENCODER_FILE).is_file():
        return None
    return locate_checkpoint(folder)


def find_description(checkpoint: Path) -> Path | None:
    """The file of its run that says what the network of RUN/checkpoints/ckpt-STEP is.

    None, with a warning in the log, for a checkpoint that does not lie in its run.
    """
    folder = checkpoint.resolve().parent
    names = (UNTRAINED_FILE, START_FILE, ENCODER_FILE) if folder.name == CHECKPOINTS else ()
    found = next((folder.parent / n for n in names if (folder.parent / n).is_file()), None)
    if found is None:
        logger.warning(
            "%s is not in the folder of its run, so clips and what its tensors do not tell are "
            "taken as published; give others as options of the architecture, --frames and --size",
            checkpoint,
        )
    return found
