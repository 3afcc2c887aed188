"""GDT and STiCA: features learned by comparing video with sound (arXiv 2003.04298, 2103.10211).

Read in this order. GDT: `objective` (the paper's equations), `sampling` and `augmentations` (what
is drawn), `captions` and `caption_sampling` (the same with text), `pairing`, `networks`, `model`,
`training` (one step), `run` (a whole run), `optim`. STiCA: `stica_objective`, `feature_crops`,
`clip_sampling` (with `clip_looks`) and `clip_augmentations`, `model_stica`, `stica_training`,
`stica_run`. What becomes of them: `encoders` and `checkpoints`, `finetune` and `eval_run`,
`audio_svm`. `quirks` says where the released code differs. Importing the package does not import
PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {"METHOD": "method", "load_encoder": "encoders"}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'gdt_stica' has no attribute '{name}'")
    return getattr(importlib.import_module(f"gdt_stica.{_LAZY[name]}"), name)
