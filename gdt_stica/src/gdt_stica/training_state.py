"""What training changes, and what an update is whatever the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from ssvideo_core.randomness import generator
from ssvideo_torch.start import Process
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class TrainingState(Generic[N]):
    """All that training changes; a checkpoint holds it whole.

    network: the bare model, whose parameters `forward` shares.
    """

    network: N
    forward: nn.Module
    optimizer: torch.optim.SGD
    scaler: torch.amp.GradScaler

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by name."""
        return {"network": self.network, "optimizer": self.optimizer, "scaler": self.scaler}

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser down the gradient of a scalar."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()


def seed_dropout(process: Process, *, seed: int, step: int) -> None:
    """Let PyTorch's generators draw from (seed, step, rank) in what follows."""
    torch.manual_seed(int(generator(seed, step, process.rank, "dropout").integers(2**62)))


def arrays_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """The state dict as arrays on the CPU."""
    return {name: t.detach().cpu().numpy() for name, t in network.state_dict().items()}
