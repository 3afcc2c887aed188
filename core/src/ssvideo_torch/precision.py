"""Mixed precision by PyTorch's own means, on any device; the originals used NVIDIA's apex."""

from __future__ import annotations

import torch
from ssvideo_core.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """A context in which matrix products and convolutions compute in `precision`.

    Parameters, losses and normalisation stay float32, as in apex's O1. "float32" changes nothing,
    also inside another such context. Forward pass and loss belong inside, backward outside.
    Raises ConfigError for another name, float16 on a CPU, or bfloat16 on a GPU without it.
    """
    device = torch.device(device)
    _check(device, precision)
    if precision == "float32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, DTYPES[precision])


def make_scaler(device: torch.device | str, precision: str) -> torch.amp.GradScaler:
    """Scales the loss so that gradients do not vanish in float16; does nothing otherwise.

    Raises ConfigError as `autocast` does.
    """
    device = torch.device(device)
    _check(device, precision)
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


def _check(device: torch.device, precision: str) -> None:
    if precision not in DTYPES:
        raise ConfigError(f"precision is {precision!r}, expected one of {', '.join(DTYPES)}")
    if precision == "float16" and device.type == "cpu":
        raise ConfigError(
            "precision float16 needs a GPU; on a CPU it is slow and its gradients vanish. Choose "
            "bfloat16 or float32"
        )
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f"this GPU ({torch.cuda.get_device_name(device)}) has no bfloat16; choose float16 or "
            "float32"
        )
