"""What fine-tuning begins with, its rates, and one step."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.checkpoints import export, read_checkpoint
from gdt_stica.finetune import (
    TuningState,
    begin_with,
    check_clips_of_step,
    fine_tuning_rate,
    kind_of,
    load_fine_tuned,
    make_state,
    parameter_groups,
    tuning_step,
)
from gdt_stica.model import AudioVisualGDT, FineTuned
from gdt_stica.model_stica import STiCA
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.checkpoint import save
from ssvideo_torch.start import Process
from torch import Tensor, nn

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain_eval.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

ALONE = Process(0, 1, 0, torch.device("cpu"))
CLASSES, BATCH, MOMENTUM = 7, 4, 0.9
NARROW = {"width": 1 / 32, "num_classes": CLASSES}
STICA = {"num_layer": 1, "transformer_time_dim": 1, "num_head": 2}
RATES = {"head": 0.02, "base": 0.003, "transformer": 0.005}
DECAYS = {"head": 0.1, "base": 0.2, "transformer": 0.3}


def network_of(seed: int = 0, **options: object) -> FineTuned:
    torch.manual_seed(seed)
    return FineTuned(Architecture(model="finetune", **{**NARROW, **options}))


def state_of(network: FineTuned, process: Process = ALONE, **options: object) -> TuningState:
    settings = {"head_only": False, "frozen_norms": False, "sync_bn": False, **options}
    return make_state(
        network, process, momentum=MOMENTUM, weight_decay=DECAYS, precision="float32", **settings
    )


def batch_of(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    clips = torch.randn(BATCH, 3, 4, 16, 16, generator=generator, dtype=dtype)
    return clips, torch.randint(CLASSES, (BATCH,), generator=generator)


def tune(
    state: TuningState, clips: Tensor, labels: Tensor, process: Process = ALONE, *, step: int = 0
) -> tuple[Tensor, Tensor]:
    options = {"rates": RATES, "precision": "float32", "seed": 0}
    return tuning_step(state, clips, labels, process, step=step, **options)


def arrays(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def test_the_published_schedule() -> None:
    wanted = [1, 4.5, 8, 8, 8, 8, 8, 0.4, 0.4, 0.4, 0.4, 0.02]
    found = [fine_tuning_rate(epoch, 0.25) / 0.25 for epoch in range(12)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(plain.factors(12), wanted, rtol=1e-12)


@pytest.mark.parametrize("warmup_epochs", [0, 1, 3])
def test_schedules_are_the_plain_ones(warmup_epochs: int) -> None:
    options = {"warmup_epochs": warmup_epochs, "milestones": (4, 5, 9), "gamma": 0.3}
    found = [fine_tuning_rate(epoch, 1.0, epochs=14, **options) for epoch in range(14)]
    np.testing.assert_allclose(found, plain.factors(14, **options), rtol=1e-12)


def test_every_tensor_is_a_group_of_its_kind() -> None:
    network = network_of(base="stica", use_bn=True, **STICA)
    groups = parameter_groups(network, DECAYS)
    assert len(groups) == len(list(network.parameters()))
    assert all(len(group["params"]) == 1 for group in groups)
    found = {id(group["params"][0]): (group["kind"], group["weight_decay"]) for group in groups}
    for name, parameter in network.named_parameters():
        start = name.partition(".")[0]
        kind = {"base": "base", "pooling_arch": "transformer"}.get(start, "head")
        assert found[id(parameter)] == (kind, DECAYS[kind]), name
    assert {kind for kind, _ in found.values()} == {"head", "base", "transformer"}


@pytest.mark.parametrize("options", [{}, {"base": "stica", **STICA}, {"use_bn": True}])
def test_steps_are_plain_sgd_on_the_cross_entropy(options: dict[str, object]) -> None:
    """Loss, gradient of the logits and update written out, with autograd's gradient only."""
    twin = network_of(**options).double().train()
    state = state_of(network_of(**options).double())
    buffers: dict[str, np.ndarray | None] = {}
    for step in range(2):
        clips, labels = batch_of(step, torch.float64)
        loss, accuracy = tune(state, clips, labels, step=step)
        logits = twin(clips)
        wanted, gradient = plain.cross_entropy(logits.detach().numpy(), labels.tolist())
        twin.zero_grad()
        logits.backward(torch.from_numpy(gradient))
        assert float(loss) == pytest.approx(wanted, rel=1e-9)
        right = [plain.is_in_top(row, int(y), 1) for row, y in zip(logits, labels, strict=True)]
        assert float(accuracy) == pytest.approx(np.mean(right))
        with torch.no_grad():
            for name, value in twin.named_parameters():
                kind = kind_of(name)
                updated, buffers[name] = plain.sgd(
                    value.numpy(),
                    value.grad.numpy(),
                    buffers.get(name),
                    RATES[kind],
                    MOMENTUM,
                    DECAYS[kind],
                )
                value.copy_(torch.from_numpy(updated))
    for name, value in arrays(twin).items():
        found = state.network.state_dict()[name].numpy()
        np.testing.assert_allclose(found, value, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("frozen", [True, False])
def test_only_the_head_is_trained(frozen: bool) -> None:
    network = network_of(base="stica", **STICA)
    before = arrays(network)
    state = state_of(network, head_only=True, frozen_norms=frozen)
    tune(state, *batch_of(0))
    changed = {name for name, value in arrays(network).items() if (value != before[name]).any()}
    statistics = {name for name in changed if "running" in name or "num_batches" in name}
    assert changed - statistics == {"classifier.weight", "classifier.bias"}
    assert bool(statistics) is not frozen


def test_frozen_norms_come_back_after_a_test() -> None:
    state = state_of(network_of(use_bn=True), head_only=True, frozen_norms=True)
    state.network.eval()
    state.train()
    assert not any(module.training for module in state.network.base.modules())
    assert state.network.final_bn.training and state.network.dropout.training


def tune_share(process: Process) -> dict[str, np.ndarray]:
    state = state_of(network_of(use_bn=True).double(), process, sync_bn=True)
    clips, labels = batch_of(0, torch.float64)
    share = BATCH // process.world_size
    own = slice(process.rank * share, (process.rank + 1) * share)
    loss, _ = tune(state, clips[own], labels[own], process)
    return {"loss": process.gather(loss).mean().numpy(), **arrays(state.network)}


def test_two_processes_are_one_with_the_whole_batch() -> None:
    whole = tune_share(ALONE)
    for found in pool_of(2).run(tune_share):
        for name, value in whole.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


def saved(path: Path, network: nn.Module, container: str) -> Path:
    """A file as the original programs write them."""
    tensors = network.state_dict()
    if container == "module":
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
        torch.save({"epoch": 151, "state_dict": tensors, "optimizer": {}}, path)
    else:
        torch.save({"model": tensors, "epoch": 201, "args": Namespace(lr=0.01)}, path)
    return path


@pytest.mark.parametrize("container", ["module", "model"])
def test_a_trunk_of_gdt_becomes_the_base(tmp_path: Path, container: str) -> None:
    gdt = AudioVisualGDT(Architecture(width=1 / 32))
    path = saved(tmp_path / "gdt.pth", gdt, container)
    network = network_of(seed=1)
    head = network.classifier.weight.detach().clone()
    unused = begin_with(network, read_checkpoint(str(path)))
    trunk = gdt.video_network.base.state_dict()
    for name, value in network.base.state_dict().items():
        assert torch.equal(value, trunk[name]), name
    assert torch.equal(network.classifier.weight, head)
    assert {entry.partition(" ")[0] for entry in unused} == {"audio_network", "mlp_a", "mlp_v"}


def test_the_pooling_of_stica_becomes_pooling_arch(tmp_path: Path) -> None:
    options = Architecture(model="stica", width=1 / 32, qkv_mha=True, **STICA)
    stica = STiCA(options)
    path = saved(tmp_path / "stica.pth.tar", stica, "module")
    network = network_of(seed=1, base="stica", qkv_mha=True, **STICA)
    begin_with(network, read_checkpoint(str(path)))
    pooling = stica.video_pooling.state_dict()
    assert pooling
    for name, value in network.pooling_arch.state_dict().items():
        assert torch.equal(value, pooling[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 1 / 16}, "of another shape"),
        ({"vid_base_arch": "r2plus1d_34"}, "--vid-base-arch"),
        ({"base": "stica", **STICA}, "pooling_arch"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    path = saved(tmp_path / "gdt.pth", AudioVisualGDT(Architecture(width=1 / 32)), "model")
    network = network_of(**options)
    before = arrays(network)
    with pytest.raises(WeightsError, match=message) as error:
        begin_with(network, read_checkpoint(str(path)))
    assert "gdt.pth" in str(error.value)
    for name, value in arrays(network).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("use_bn", [False, True])
def test_a_fine_tuned_network_comes_back_whole(tmp_path: Path, use_bn: bool) -> None:
    network = network_of(use_bn=use_bn)
    path = tmp_path / "encoder.safetensors"
    export(path, arrays(network), Architecture(model="finetune", use_bn=use_bn, **NARROW))
    other = network_of(seed=1, use_bn=use_bn)
    load_fine_tuned(other, read_checkpoint(str(tmp_path)))
    for name, value in arrays(other).items():
        np.testing.assert_array_equal(value, arrays(network)[name])


def test_what_is_not_fine_tuned_on_these_classes_is_refused(tmp_path: Path) -> None:
    for name, network in (
        ("gdt.pth", AudioVisualGDT(Architecture(width=1 / 32))),
        ("other.pth", network_of(num_classes=CLASSES + 1)),
    ):
        path = saved(tmp_path / name, network, "model")
        with pytest.raises(WeightsError, match=f"{name} is no network that was fine-tuned"):
            load_fine_tuned(network_of(), read_checkpoint(str(path)))


@pytest.mark.parametrize("inside", ["", "checkpoints/ckpt-00000003"])
def test_a_checkpoint_of_a_run_is_read(tmp_path: Path, inside: str) -> None:
    network = network_of()
    save(tmp_path / "checkpoints", 3, {"network": network}, facts={})
    other = network_of(seed=1)
    begin_with(other, read_checkpoint(str(tmp_path / inside)))
    assert torch.equal(other.base.stem[0].weight, network.base.stem[0].weight)


def test_clips_of_a_step() -> None:
    check_clips_of_step(8, 4, statistics_of_all=False)
    check_clips_of_step(4, 4, statistics_of_all=True)
    with pytest.raises(ConfigError, match="expected a multiple of 3"):
        check_clips_of_step(8, 3, statistics_of_all=True)
    with pytest.raises(ConfigError, match="--sync-bn yes"):
        check_clips_of_step(4, 4, statistics_of_all=False)


def test_weights_of_another_format_tell_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path / "gdt.pth", AudioVisualGDT(Architecture(width=1 / 32)), "model")
    checkpoint = read_checkpoint(str(path))
    export(tmp_path / "gdt.safetensors", checkpoint.tensors, checkpoint.architecture)
    one, other = network_of(seed=1), network_of(seed=1)
    begin_with(one, read_checkpoint(str(path)))
    begin_with(other, read_checkpoint(str(tmp_path / "gdt.safetensors")))
    for name, value in arrays(one).items():
        np.testing.assert_array_equal(value, arrays(other)[name])
