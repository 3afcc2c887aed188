"""GDT and STiCA: features learned by comparing video with sound (arXiv 2003.04298, 2103.10211).

Read in this order: `architecture` (the choices), `networks` (trunks and heads), `model` (what the
published state dicts describe), `inputs` (what the networks see), `encoders` (frozen networks for
evaluation), `checkpoints` (files). Importing the package does not import PyTorch.
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
