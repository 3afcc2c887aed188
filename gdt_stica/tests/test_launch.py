from __future__ import annotations

import pytest
from gdt_stica.config import MainGDT
from gdt_stica.launch import start_processes


def test_a_world_of_one_needs_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original's flags have --world_size 1 as their default, and scripts pass it."""
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with start_processes(MainGDT(device="cpu", world_size=1, local_rank=0)) as process:
        assert (process.rank, process.world_size) == (0, 1)
