from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.networks.pooling import make_pooling
from gdt_stica.networks.transformer import SelfAttention, Transformer
from torch import nn

_spec = importlib.util.spec_from_file_location(
    "plain_pooling", Path(__file__).with_name("plain_pooling.py")
)
plain_pooling = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain_pooling)

SIZE = 24


def stica_options(**options: Any) -> Architecture:
    """A map of 24 channels."""
    return Architecture(model="stica", width=SIZE / 512, **options)


def make_random(pooling: nn.Module) -> None:
    """Norms, biases and places that are not the neutral ones of the start."""
    generator = torch.Generator().manual_seed(7)
    for parameter in pooling.parameters():
        parameter.data.normal_(std=0.3, generator=generator)


@pytest.mark.parametrize(
    "options",
    [
        {"num_layer": 2, "num_head": 4},
        {"num_layer": 1, "num_head": 3, "positional_emb": True},
        {"num_layer": 3, "num_head": 1, "qkv_mha": True},
        {"num_layer": 2, "num_head": 8, "qkv_mha": True, "positional_emb": True},
    ],
)
@pytest.mark.parametrize(("frames", "tokens"), [(4, 4), (3, 4), (2, 4), (4, 8), (15, 15), (12, 5)])
def test_pooling_equals_the_plain_version(
    options: dict[str, Any], frames: int, tokens: int
) -> None:
    architecture = stica_options(transformer_time_dim=tokens, **options)
    pooling = make_pooling(SIZE, architecture).double().eval()
    make_random(pooling)
    maps = torch.randn(
        2, SIZE, frames, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    weights = {k: v.numpy() for k, v in pooling[2].state_dict().items()}
    wanted = plain_pooling.pooled(
        maps.numpy(),
        weights,
        num_layer=options["num_layer"],
        num_head=options["num_head"],
        tokens=tokens,
    )
    with torch.no_grad():
        found = pooling(maps).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


def test_pooling_without_layers_is_the_average() -> None:
    maps = torch.randn(3, SIZE, 4, 5, 6)
    pooling = make_pooling(SIZE, stica_options(num_layer=0))
    assert not pooling.state_dict()
    torch.testing.assert_close(pooling(maps), maps.mean(dim=(2, 3, 4)))
    assert pooling(maps[:1]).shape == (1, SIZE)


def test_clips_are_pooled_alone() -> None:
    """The original mixes clips where tokens and frames differ."""
    pooling = make_pooling(SIZE, stica_options(num_layer=2, transformer_time_dim=4)).eval()
    make_random(pooling)
    maps = torch.randn(3, SIZE, 8, 2, 2)
    with torch.no_grad():
        alone = torch.cat([pooling(maps[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(pooling(maps), alone)


def test_initial_values_of_the_transformer() -> None:
    torch.manual_seed(0)
    transformer = Transformer(512, num_layer=2, positional_emb=True, qkv_mha=True)
    first = transformer.transformer[0]
    linears = [m for m in transformer.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == 12
    for linear in linears:
        torch.testing.assert_close(linear.weight.std().item(), 0.02, rtol=0.02, atol=0)
        assert (linear.bias == 0).all()
    for layer_norm in (first.norm1, first.norm2):
        assert (layer_norm.weight == 1).all()
        assert (layer_norm.bias == 0).all()
        assert layer_norm.eps == 1e-12
    places = transformer.pos_embs[0].weight
    assert places.shape == (64, 512)
    torch.testing.assert_close(places.std().item(), 1.0, rtol=0.02, atol=0)
    assert transformer.pos_ids.tolist() == [list(range(64))]


def test_dropout_of_attention() -> None:
    """Of weights and of outputs; the share of zeros is that of the outputs."""
    torch.manual_seed(0)
    attention, steady = SelfAttention(64, 4, dropout=0.25), SelfAttention(64, 4)
    steady.load_state_dict(attention.state_dict())
    tokens = torch.randn(50, 6, 64)
    with torch.no_grad():
        assert torch.equal(attention.eval()(tokens), steady(tokens))
        outputs = attention.train()(tokens)
        again = attention(tokens)
    torch.testing.assert_close((outputs == 0).float().mean().item(), 0.25, rtol=0, atol=0.02)
    kept = (outputs != 0) & (again != 0)
    assert (outputs[kept] != again[kept]).float().mean() > 0.9
