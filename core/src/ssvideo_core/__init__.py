"""Videos in, comparable numbers out: what every ssvideo method shares. NumPy only.

Read in this order: `views` (the nouns), `video` (reading), `methods` (what a method is),
`extract` and `features` (features on disk), `protocols` and `evaluate` (numbers), `results`.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "ClipSpec": "views",
    "Clip": "views",
    "Pixels": "views",
    "Samples": "views",
    "Spread": "views",
    "Steps": "views",
    "VideoInfo": "views",
    "View": "views",
    "plan": "views",
    "probe": "video",
    "read_views": "video",
    "open_source": "source",
    "embed_videos": "extract",
    "open_features": "features",
    "discover": "methods",
    "read_results": "results",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ssvideo_core' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ssvideo_core.{_LAZY[name]}"), name)
