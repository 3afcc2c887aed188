from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.optim import epoch_rate, make_sgd
from ssvideo_core.errors import ConfigError
from torch import nn

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

STEPS = {"kind": "multi_step", "milestones": (15, 20, 24), "gamma": 0.1}


def rates(epochs: int = 30, **options: object) -> np.ndarray:
    settings = {"multiplier": 4.0, "warmup_epochs": 10, **options}
    return np.array([epoch_rate(e, 0.5, epochs=epochs, **settings) for e in range(epochs)])


@pytest.mark.parametrize("kind", ["multi_step", "cosine"])
@pytest.mark.parametrize("warmup_epochs", [0, 1, 10])
@pytest.mark.parametrize("multiplier", [1.0, 4.0])
def test_closed_form_equals_schedulers_stepped_in_turn(
    kind: str, warmup_epochs: int, multiplier: float
) -> None:
    options = {"multiplier": multiplier, "warmup_epochs": warmup_epochs, **STEPS, "kind": kind}
    wanted = plain.released_rates(0.5, epochs=30, **options)
    got = rates(warm_up="released", **options)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [STEPS, {**STEPS, "milestones": (150,)}, {"kind": "cosine"}])
def test_without_warm_up_both_schedules_are_pytorchs(options: dict[str, object]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler
    if options["kind"] == "cosine":
        scheduler = theirs.CosineAnnealingLR(optimizer, T_max=30)
    else:
        scheduler = theirs.MultiStepLR(optimizer, list(options["milestones"]), gamma=0.1)
    wanted = []
    for _ in range(30):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    for schedule in ("released", "exact"):
        got = rates(warmup_epochs=0, schedule=schedule, **options)
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_exact_drops_at_the_milestones_and_released_one_epoch_later() -> None:
    released, exact = (rates(schedule=name, **STEPS) for name in ("released", "exact"))
    drops = [np.flatnonzero(np.diff(r[10:]) < 0) + 11 for r in (released, exact)]
    assert drops[0].tolist() == [16, 21, 25]
    assert drops[1].tolist() == [15, 20, 24]
    np.testing.assert_array_equal(released[:11], exact[:11])
    np.testing.assert_allclose(exact[[14, 15, 20, 24]], [2.0, 0.2, 0.02, 0.002], rtol=1e-12)


def test_exact_cosine_falls_from_the_end_of_the_warm_up_to_zero() -> None:
    exact = rates(schedule="exact", kind="cosine")
    assert exact[10] == 2.0
    assert exact[20] == pytest.approx(1.0)
    after_the_end = epoch_rate(30, 0.5, epochs=30, multiplier=4.0, kind="cosine", schedule="exact")
    assert after_the_end == pytest.approx(0.0, abs=1e-15)


def test_warm_up_of_one_process() -> None:
    released = rates(multiplier=1.0, warm_up="released", **STEPS)
    np.testing.assert_allclose(released[:11], 0.5 * np.arange(11) / 10)
    nonzero = rates(multiplier=1.0, **STEPS)
    np.testing.assert_allclose(nonzero[:11], 0.5 * np.arange(1, 12) / 11)
    np.testing.assert_array_equal(nonzero[11:], released[11:])


def test_warm_up_of_several_processes_starts_at_the_rate_of_one() -> None:
    for warm_up in ("released", "nonzero"):
        np.testing.assert_allclose(
            rates(warm_up=warm_up, **STEPS)[:11], np.linspace(0.5, 2.0, 11), rtol=1e-12
        )


@pytest.mark.parametrize("option", ["kind", "schedule", "warm_up"])
def test_unknown_choices_are_named(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} 'never': expected one of .*, "):
        rates(**{option: "never"})


def test_sgd_decays_norms_and_biases_too_and_leaves_frozen_parameters_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    network[2].requires_grad_(False)
    optimizer = make_sgd(network, momentum=0.9, weight_decay=0.25)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network[:2].parameters()]
    group["lr"] = 1.0
    start = [p.detach().clone() for p in network[:2].parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    optimizer.step()
    for parameter, x in zip(network[:2].parameters(), start, strict=True):
        first = x - (0.5 + 0.25 * x)
        second = first - (0.9 * (0.5 + 0.25 * x) + 0.5 + 0.25 * first)
        torch.testing.assert_close(parameter.detach(), second)
    assert make_sgd(network).defaults["momentum"] == 0.9
    assert make_sgd(network).defaults["weight_decay"] == 1e-5
