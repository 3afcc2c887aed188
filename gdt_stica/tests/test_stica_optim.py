from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.stica_optim import iteration_rate
from ssvideo_core.errors import ConfigError

_spec = importlib.util.spec_from_file_location(
    "plain_stica", Path(__file__).with_name("plain_stica.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

RATES = {"base_rate": 0.64, "start_rate": 0.01, "final_rate": 0.002}


def rates(epochs: int = 6, iterations_per_epoch: int = 5, **options: object) -> np.ndarray:
    settings = {
        "iterations_per_epoch": iterations_per_epoch,
        "epochs": epochs,
        "warmup_epochs": 2,
        **RATES,
        **options,
    }
    return np.array([iteration_rate(i, **settings) for i in range(epochs * iterations_per_epoch)])


@pytest.mark.parametrize("kind", ["constant", "cosine"])
@pytest.mark.parametrize("warmup_epochs", [0, 1, 2, 6])
@pytest.mark.parametrize("iterations_per_epoch", [1, 5])
def test_rates_are_the_two_lists(kind: str, warmup_epochs: int, iterations_per_epoch: int) -> None:
    found = rates(kind=kind, warmup_epochs=warmup_epochs, iterations_per_epoch=iterations_per_epoch)
    cosine = kind == "cosine"
    wanted = plain.rates(iterations_per_epoch, 6, warmup_epochs, 0.01, 0.64, 0.002, cosine)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_warm_up_has_both_ends_and_the_cosine_its_first() -> None:
    found = rates(kind="cosine")
    assert found[0] == 0.01
    assert found[9] == found[10] == pytest.approx(0.64, rel=1e-15)
    assert found[20] == pytest.approx((0.64 + 0.002) / 2)
    after = {"iterations_per_epoch": 5, "epochs": 6, "warmup_epochs": 2, "kind": "cosine"}
    assert iteration_rate(30, **after, **RATES) == pytest.approx(0.002, rel=1e-12)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ConfigError, match="kind 'step': expected one of constant, cosine"):
        rates(kind="step")
