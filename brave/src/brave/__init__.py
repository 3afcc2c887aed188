"""BraVe: a narrow and a broad view of a video learn to predict each other (arXiv 2103.16559).

Read in this order: `architecture` (the choices), `networks` (layers, the video backbone),
`encoders` (frozen networks for evaluation), `checkpoints` (files), then the paper's own evaluation:
`records` (its data), `sampling` (which frames and boxes), `images` and `augmentations` (pixels),
`crops` (what is embedded), `evaluation` and `evaluate_video_embeddings` (its command). Importing
the package does not import JAX.
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
