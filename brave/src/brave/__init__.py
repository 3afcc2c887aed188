"""BraVe: a narrow and a broad view of a video learn to predict each other (arXiv 2103.16559).

Read in this order: `views` and `architecture` (the choices), `networks`, `model`, `objective` (the
paper's loss), `optim`; then training: `view_sampling` and `training_data` (what is drawn and read),
`device_augmentations` and `log_mel`, `training` (one step, the loop), `run`, `experiment` (its
command). What becomes of it: `backbones` (what a file's names hold), `checkpoints` and
`released_files` (both formats), `clips`, `inputs` and `projectors` (what a frozen network sees and
gives), `encoders`. The paper's own evaluation: `records`, `sampling`, `images` and `augmentations`,
`crops`, `evaluation`, `evaluate_video_embeddings`. `quirks` says where the released trainer
differs. Importing the package does not import JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {"METHOD": "method", "load_encoder": "encoders"}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'brave' has no attribute '{name}'")
    return getattr(importlib.import_module(f"brave.{_LAZY[name]}"), name)
