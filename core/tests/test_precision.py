from __future__ import annotations

import pytest
import torch
from ssvideo_core.errors import ConfigError
from ssvideo_torch.precision import autocast, make_scaler


def product_type(precision: str) -> torch.dtype:
    with autocast("cpu", precision):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_products_have_the_precision_asked_for() -> None:
    assert product_type("float32") == torch.float32
    assert product_type("bfloat16") == torch.bfloat16
    with autocast("cpu", "bfloat16"):
        assert product_type("float32") == torch.float32
        assert product_type("bfloat16") == torch.bfloat16


def test_parameters_and_their_gradients_stay_float32() -> None:
    layer = torch.nn.Linear(3, 2)
    with autocast(torch.device("cpu"), "bfloat16"):
        loss = layer(torch.ones(4, 3)).sum()
    loss.backward()
    assert layer.weight.grad is not None
    assert {layer.weight.dtype, layer.weight.grad.dtype} == {torch.float32}
    torch.testing.assert_close(layer.weight.grad, torch.full((2, 3), 4.0), rtol=0, atol=0)


@pytest.mark.parametrize("make", [autocast, make_scaler])
def test_what_cannot_be(make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"float16 needs a GPU.*Choose bfloat16"):
        make("cpu", "float16")
    with pytest.raises(ConfigError, match="'half', expected one of float32, bfloat16, float16"):
        make("cpu", "half")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla P100")
    with pytest.raises(ConfigError, match=r"Tesla P100.*no bfloat16; choose float16"):
        make("cuda:1", "bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_scaler_does_nothing_without_float16(precision: str) -> None:
    scaler = make_scaler("cpu", precision)
    assert not scaler.is_enabled()
    loss = torch.tensor(3.0)
    assert scaler.scale(loss) is loss
    assert scaler.state_dict() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 and its scaler need a GPU")
def test_float16_scales_on_a_gpu() -> None:
    with autocast("cuda", "float16"):
        product = torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")
    assert product.dtype == torch.float16
    scaler = make_scaler("cuda", "float16")
    assert scaler.scale(torch.ones((), device="cuda")).item() == 65536.0
