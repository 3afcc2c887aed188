from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.model import build
from gdt_stica.model_text import VideoTextGDT, load_word_table
from gdt_stica.networks.text import WordSets
from ssvideo_core.errors import ConfigError, WeightsError
from torch import nn


@torch.no_grad()
def test_texts_are_sets_of_words() -> None:
    torch.manual_seed(0)
    network = WordSets(7)
    network.word_embd.weight.normal_()
    words = torch.tensor([[3, 1, 0, 0], [6, 6, 2, 5]])
    found = network(words)
    table, fc1 = network.word_embd.weight, network.fc1
    for row, ids in enumerate(words.tolist()):
        each = [(fc1.weight @ table[i] + fc1.bias).clamp(min=0) for i in ids]
        torch.testing.assert_close(found[row], torch.stack(each).max(dim=0).values)
    assert torch.equal(network(words.flip(1)), found)


def test_table_of_words_is_not_learned() -> None:
    torch.manual_seed(0)
    architecture = Architecture(model="vid_text_gdt", embedding_rows=5, width=1 / 64)
    table = torch.randn(5, 300)
    model = build(architecture, word_table=table)
    assert isinstance(model, VideoTextGDT)
    video, text = model(torch.randn(2, 3, 2, 16, 16), torch.tensor([[1, 2], [4, 0]]))
    (video * text.flip(0)).sum().backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {n for n, _ in model.named_parameters()} - learned == {"text_network.word_embd.weight"}
    assert torch.equal(model.text_network.word_embd.weight, table)
    model.text_network.word_embd.weight[0] = 1
    assert not torch.equal(model.text_network.word_embd.weight, table)  # a copy
    with pytest.raises(ConfigError, match=r"\(4, 300\), expected \(5, 300\); set embedding_rows=4"):
        build(architecture, word_table=table[:4])


def test_text_side_only_if_asked_for() -> None:
    architecture = Architecture(model="vid_text_gdt", width=1 / 64)
    model = build(architecture, text_side=False)
    assert {name.split(".")[0] for name in model.state_dict()} == {"video_network", "mlp_v"}
    assert model.project_video(torch.randn(2, 3, 2, 16, 16)).shape == (2, 256)


def test_word_table_from_a_file(tmp_path: Path) -> None:
    table = torch.randn(6, 300)
    torch.save(table, tmp_path / "word2vec.pth")
    assert torch.equal(load_word_table(tmp_path / "word2vec.pth"), table)
    torch.save(table.double(), tmp_path / "double.pth")
    found = load_word_table(tmp_path / "double.pth")
    assert found.dtype == torch.float32
    assert torch.equal(found, table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(6, 200), r"holds float32 \(6, 200\), expected floats of shape \(words, 300\)"),
        (torch.zeros(300), r"holds float32 \(300,\), expected"),
        (torch.zeros(6, 300, dtype=torch.int64), r"holds int64 \(6, 300\), expected"),
        (torch.zeros(1, 300), r"holds float32 \(1, 300\), expected"),
        ({"table": torch.zeros(6, 300)}, r"holds dict, expected"),
        (torch.full((6, 300), float("nan")), r"some vectors are not finite"),
        (nn.Embedding(6, 300), r"names 'torch.nn"),
    ],
)
def test_what_is_no_word_table(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "word2vec.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as error:
        load_word_table(path)
    assert str(path) in str(error.value)


def test_absent_word_table(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"word2vec.pth: no such file; word2vec.zip has it"):
        load_word_table(tmp_path / "word2vec.pth")
