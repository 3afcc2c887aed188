"""A network that trains in several processes as one would with the whole batch."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssvideo_torch.batch_norm import synchronise_batch_norm
from ssvideo_torch.start import Process

# The newer name of the option that turns off copying the first process' buffers to the others.
_NEWER = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEWER else "broadcast_buffers": False}


def parallel(module: nn.Module, process: Process, *, sync_bn: bool) -> nn.Module:
    """DistributedDataParallel over `module`, which is on its device; itself for a lone process.

    sync_bn: batch norms take their statistics over all processes; otherwise each over its own
    batch, and running statistics differ. Gradients are averaged over processes. Call the result
    once a step. Parameters that want a gradient must get one in every step. Parameters and their
    names in `module` stay, so its own state dict is that of one process.
    """
    if process.world_size == 1:
        return module
    if sync_bn:
        module = synchronise_batch_norm(module)
    devices = [process.device.index] if process.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, **_OWN_BUFFERS)
