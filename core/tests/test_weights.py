"""Files as the originals' programs write them, read back and compared with torch's own reader."""

from __future__ import annotations

import argparse
import io
import pickle
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import Record, fingerprint, read_weights, select_tensors

torch = pytest.importorskip("torch")

CONTAINERS = {"zip": True, "legacy": False}
DTYPES = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
]


def tensors() -> dict[str, Any]:
    """Every dtype, and every way in which a tensor lies in its storage."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    rows = {f"dtype.{name}": (base * 9).to(getattr(torch, name)) for name in DTYPES}
    rows |= {
        "view.offset": base[1:, 2:5],
        "view.transposed": base.t(),
        "view.strided": base[::2, ::3],
        "view.expanded": torch.arange(3.0).expand(1, 3),
        "shared.a": base,
        "shared.b": base.view(2, 12),
        "scalar": torch.tensor(3.5),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base.clone()),
        "frozen": torch.nn.Parameter(base.clone(), requires_grad=False),
        "buffer.channels_last": torch.randn(2, 3, 4, 5, generator=generator).contiguous(
            memory_format=torch.channels_last
        ),
    }
    return rows


def save(tree: Any, path: Path, container: str) -> Path:
    torch.save(tree, path, _use_new_zipfile_serialization=CONTAINERS[container])
    return path


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_equal_those_of_torch(container: str, tmp_path: Path) -> None:
    wanted = tensors()
    found = read_weights(save(wanted, tmp_path / "any.name", container))
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        array = tensor.detach().numpy()
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].flags.c_contiguous
        assert found[name].flags.writeable
    assert np.shares_memory(found["shared.a"], found["shared.b"])
    torch.from_numpy(found["view.offset"])


@pytest.mark.parametrize("container", CONTAINERS)
def test_bfloat16_arrives_as_float32(container: str, tmp_path: Path) -> None:
    tensor = torch.tensor([[1.5, -2.0, 3e38], [0.1, float("inf"), 1e-40]]).to(torch.bfloat16)
    tree = {"a": tensor, "b": tensor[:, 1:]}
    found = read_weights(save(tree, tmp_path / "w.pth", container))
    for name, value in tree.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], value.float().numpy())


def network() -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()
    )


def training_checkpoint() -> tuple[Any, dict[str, Any]]:
    """What a training program saves: prefixed names, optimiser, a pickled scheduler, options."""
    torch.manual_seed(1)
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    net(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    scheduler.step()
    tree = {
        "model": OrderedDict((f"module.{k}", v) for k, v in net.state_dict().items()),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"multiplier": 8.0, "after_scheduler": scheduler},
        "args": argparse.Namespace(
            lr=0.1, device=torch.device("cuda", 1), dtype=torch.float16, size=torch.Size([2, 3])
        ),
        "counter": Counter({"a": 2}),
        "default": defaultdict(dict, {0: {"x": 1}}),
        "epoch": 42,
        "best": float("-inf"),
        "names": ("é", b"\xff\x00", None, True, -(2**40), 1e-9),
        "dist": [torch.ones(2, 1, dtype=torch.float64)],
    }
    return net, tree


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_training_checkpoint(container: str, tmp_path: Path) -> None:
    net, tree = training_checkpoint()
    found = read_weights(save(tree, tmp_path / "checkpoint.pth.tar", container))
    assert found["epoch"] == 42
    assert found["best"] == float("-inf")
    assert found["names"] == tree["names"]
    assert found["counter"] == {"a": 2}
    assert found["default"] == {0: {"x": 1}}
    np.testing.assert_array_equal(found["dist"][0], np.ones((2, 1)))

    momentum = tree["optimizer"]["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(
        found["optimizer"]["state"][0]["momentum_buffer"], momentum.numpy()
    )
    assert found["optimizer"]["param_groups"][0]["momentum"] == 0.9

    scheduler = found["lr_scheduler"]["after_scheduler"]
    assert isinstance(scheduler, Record)
    assert repr(scheduler) == "Record(torch.optim.lr_scheduler.MultiStepLR)"
    assert scheduler.state["milestones"] == {3: 1, 5: 1}
    assert scheduler.state["optimizer"].class_name == "torch.optim.sgd.SGD"
    inner = scheduler.state["optimizer"].state["state"]
    np.testing.assert_array_equal(inner["tensor 0"]["momentum_buffer"], momentum.numpy())

    assert found["args"].class_name == "argparse.Namespace"
    assert found["args"].state == {
        "lr": 0.1, "device": "cuda:1", "dtype": "torch.float16", "size": (2, 3)
    }  # fmt: skip

    state = select_tensors(found)
    assert list(state) == list(net.state_dict())
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(state[name], tensor.numpy())
    assert state["1.num_batches_tracked"].shape == ()


def test_both_containers_hold_the_same_weights(tmp_path: Path) -> None:
    _, tree = training_checkpoint()
    prints = {
        fingerprint(select_tensors(read_weights(save(tree, tmp_path / name, name))))
        for name in CONTAINERS
    }
    assert len(prints) == 1


def test_a_zip_file_of_a_big_endian_machine(tmp_path: Path) -> None:
    source = save({"a": torch.arange(5, dtype=torch.int32)}, tmp_path / "little.pth", "zip")
    target = tmp_path / "big.pth"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("byteorder"):
                content = b"big"
            if info.filename.endswith("data/0"):
                content = np.frombuffer(content, "<i4").astype(">i4").tobytes()
            new.writestr(info.filename, content)
    found = read_weights(target)["a"]
    np.testing.assert_array_equal(found, np.arange(5))
    assert found.dtype == np.int32


def numpy_tree() -> dict[str, Any]:
    a = np.arange(6.0).reshape(2, 3)
    return {
        "params": {"net/~/linear": {"w": a.astype(np.float32), "b": np.zeros(0, np.float16)}},
        "fortran": np.asfortranarray(a),
        "big endian": a.astype(">i4"),
        "bool": np.array([True, False]),
        "complex": np.array(1 + 2j),
        "text": np.array(["ab", "ü"]),
        "bytes array": np.array([b"ab", b"c"]),
        "scalar": np.float32(0.5),
        "counter": np.int64(3),
        "twice": [a, a],
        "plain": [1, 2.5, "x", None, True, (1, 2), b"\x00\xff", b"", 2**70, {1, 2}, {"k": {}}],
    }


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(numpy_tree(), protocol=protocol))
    assert_same_tree(read_weights(path), numpy_tree())


def assert_same_tree(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert_same_tree(found[key], value)
    elif isinstance(wanted, np.ndarray | np.generic):
        assert type(found) is type(wanted)
        assert found.dtype == wanted.dtype.newbyteorder("=")
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, list) and any(isinstance(item, np.ndarray) for item in wanted):
        assert found[0] is found[1]
        assert_same_tree(found[0], wanted[0])
    else:
        assert found == wanted
        assert type(found) is type(wanted)


def test_arrays_of_numpy_before_2_are_read(tmp_path: Path) -> None:
    content = pickle.dumps(np.arange(3), protocol=2).replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "old.pkl"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_weights(path), np.arange(3))


def test_npy_files(tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((2, 3), ">f4")),
                  np.array(2.5), np.zeros((0, 3)), np.array(["a", "bc"])):  # fmt: skip
        np.save(path, array)
        found = read_weights(path)
        np.testing.assert_array_equal(found, array)
        assert found.shape == array.shape
        assert found.dtype == array.dtype.newbyteorder("=")
    np.save(path, np.array(numpy_tree(), dtype=object), allow_pickle=True)
    assert_same_tree(read_weights(path), numpy_tree())
    np.save(path, np.array([{"a": 1}, None, "x"], dtype=object), allow_pickle=True)
    assert read_weights(path) == [{"a": 1}, None, "x"]
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.arange(4), version=(2, 0))
    np.testing.assert_array_equal(read_weights(path), np.arange(4))


class FlatMapping(dict):  # type: ignore[type-arg]
    """Stands for Haiku's: pickled as its class and one dict."""

    def __reduce__(self) -> tuple[Any, ...]:
        return FlatMapping, (dict(self),)


class DeviceArray:
    """Stands for a JAX array: pickled as the parts of a NumPy array."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        function, args, state = self.value.__reduce__()
        return _reconstruct_array, (function, args, state, {"weak_type": False})


def _reconstruct_array() -> None: ...


def test_haiku_mappings_and_jax_arrays(tmp_path: Path) -> None:
    """Their pickles name classes of packages that are never imported."""
    here = __name__.encode()
    content = pickle.dumps(FlatMapping(w=DeviceArray(np.arange(3))), protocol=2)
    content = content.replace(
        b"c" + here + b"\nFlatMapping\n", b"chaiku._src.data_structures\nFlatMapping\n"
    ).replace(b"c" + here + b"\n_reconstruct_array\n", b"cjax._src.array\n_reconstruct_array\n")
    path = tmp_path / "w.pkl"
    path.write_bytes(content)
    found = read_weights(path)
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], np.arange(3))


def test_the_reader_imports_neither_torch_nor_jax(tmp_path: Path) -> None:
    path = save(training_checkpoint()[1], tmp_path / "w.pth", "zip")
    code = (
        "import sys; from ssvideo_core.weights import read_weights; "
        f"print(read_weights({str(path)!r})['epoch'], {{'torch', 'jax'}} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "42 set()\n"


# ---- damaged and foreign files ------------------------------------------------------------


def zip_file(path: Path, change: dict[str, bytes | None], **options: Any) -> Path:
    """A torch zip file with members replaced, added or (None) left out."""
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(4.0), "b": torch.ones(2)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", **options) as new:
        names = [info.filename for info in old.infolist()]
        for name in [*names, *(f"archive/{n}" for n in change if f"archive/{n}" not in names)]:
            short = name.removeprefix("archive/")
            content = change[short] if short in change else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data/0": b"short"}, "5 bytes for a storage of 4 elements"),
        ({"data/0": bytes(20)}, "20 bytes for a storage of 4 elements"),
        ({"data/1": None}, "the member data/1 is absent"),
        ({"byteorder": b"middle"}, "byte order b'middle', expected little or big"),
        ({"data.pkl": None}, "a zip file with 0 data.pkl"),
        ({"sub/data.pkl": b""}, "a zip file with 2 data.pkl"),
        ({"constants.pkl": b""}, "a TorchScript program; save its state_dict instead"),
        ({"data.pkl": b"\x80\x02}q\x00"}, "damaged or cut off"),
    ],
)
def test_wrong_members_of_a_zip_file(
    change: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    path = zip_file(tmp_path / "w.pth", change)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_compressed_zip_file_is_refused(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "w.pth", {}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="members repeated, compressed, encrypted"):
        read_weights(path)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_cut_off_files(container: str, share: float, tmp_path: Path) -> None:
    path = save(training_checkpoint()[1], tmp_path / "w.pth", container)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * share))])
    with pytest.raises(WeightsError, match=r"cut off|bytes for a storage"):
        read_weights(path)


@pytest.mark.parametrize("container", CONTAINERS)
def test_appended_bytes(container: str, tmp_path: Path) -> None:
    path = save({"a": torch.ones(3)}, tmp_path / "w.pth", container)
    path.write_bytes(path.read_bytes() + b"more")
    if container == "zip":  # a zip file may have a tail: it is found from the end
        np.testing.assert_array_equal(read_weights(path)["a"], np.ones(3))
    else:
        with pytest.raises(WeightsError, match="4 bytes follow the end of its content"):
            read_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the weights file is empty"),
        (
            b"hello, this is text",
            r"\(not .npy, .pth, .ckpt or .safetensors; read as .pkl\): the pickle is refused",
        ),
        (b"\x1f\x8b\x08\x00 gzip", "the pickle is refused"),
        (b"\x00" * 257 + b"ustar" + b"\x00" * 250, "a tar file, as PyTorch wrote before 0.1.10"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "the .npy header .* is damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "the .npy header .* is damaged"),
        (b"\x93NUMPY\x09\x00\x05\x00{'a'}", "the .npy header .* is damaged"),
        (b"\xff\xff\x00\x00\x00\x00\x00\x00{}", "not a whole safetensors file"),
        (pickle.dumps({"a": 1}) + b"tail", "4 bytes follow the end of its content"),
    ],
)
def test_files_in_no_known_format(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(path)


def test_npy_headers_that_do_not_match_their_data(tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    np.save(path, np.zeros((2, 3)))
    content = path.read_bytes()
    for change in (
        (b"(2, 3)", b"(9, 9)"),
        (b"(2, 3)", b"(2,-3)"),
        (b"<f8", b"<M8"),
        (b"<f8", b"|V8"),
        (b"<f8", b"<O8"),
    ):
        path.write_bytes(content.replace(*change))
        with pytest.raises(WeightsError, match=r"an array of shape|the \.npy header"):
            read_weights(path)
    path.write_bytes(content.replace(b"'<f8'", b"'<O'").replace(b" \n", b"  \n"))
    with pytest.raises(WeightsError, match=r"the \.npy header"):
        read_weights(path)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"w\.pth: there is no such weights file"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("container", ["zip", "npy"])
def test_random_damage_is_refused_or_read_right(container: str, tmp_path: Path) -> None:
    """The zip has checksums for everything; headers of .npy must never give wrong shapes."""
    path = tmp_path / "w"
    if container == "zip":
        _, tree = training_checkpoint()
        save(tree, path, "zip")
        wanted = fingerprint(select_tensors(read_weights(path)))
    content = path.read_bytes() if container == "zip" else b""
    if container == "npy":
        np.save(path.with_suffix(".npy"), np.arange(12.0).reshape(3, 4))
        content = path.with_suffix(".npy").read_bytes()[:128]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged if container == "zip" else damaged + np.arange(12.0).tobytes())
        try:
            found = read_weights(path)
        except WeightsError:
            refused += 1
            continue
        if container == "zip":
            assert fingerprint(select_tensors(found)) == wanted
        else:
            assert isinstance(found, np.ndarray)
            assert found.nbytes == 96
    assert refused > 50
